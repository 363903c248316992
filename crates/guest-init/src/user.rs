//! Who a process runs as: names of the image's own `/etc/passwd` and `/etc/group`.

/// An identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Supplementary groups, with `gid`.
    pub(crate) groups: Vec<u32>,
    /// Home directory.
    pub(crate) home: String,
}

impl Identity {
    /// The superuser, whatever the image says.
    pub(crate) fn root() -> Self {
        Self {
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: "/root".to_owned(),
        }
    }
}

/// Why a user cannot be found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    /// No such name.
    #[error("the image has no user {name:?}")]
    NoUser { name: String },
    /// No such name.
    #[error("the image has no group {name:?}")]
    NoGroup { name: String },
}

/// Looks up `user[:group]`, each a name or a number; a number need not be in the files.
///
/// The group of a user that is in no file is 0, as with other container runtimes. Supplementary groups are
/// taken from the files only when no group was asked for.
pub(crate) fn resolve(spec: &str, passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = passwd
        .lines()
        .find_map(|line| Entry::parse(line).filter(|entry| entry.is(user)));
    let (uid, own_gid, home, name) = match (&entry, user.parse()) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.home, entry.name),
        (None, Ok(uid)) => (uid, 0, if uid == 0 { "/root" } else { "/" }, ""),
        // Images without any files of users are run by this name all the same.
        (None, Err(_)) if user == "root" => (0, 0, "/root", "root"),
        (None, Err(_)) => {
            return Err(UserError::NoUser {
                name: user.to_owned(),
            });
        }
    };
    let (gid, groups) = match wanted_group {
        Some(wanted) => {
            let gid = find_group(wanted, group)?;
            (gid, vec![gid])
        }
        None => (own_gid, supplementary(name, own_gid, group)),
    };
    Ok(Identity {
        uid,
        gid,
        groups,
        home: home.to_owned(),
    })
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Entry<'a> {
    /// Parses `name:password:uid:gid:gecos:home:shell`.
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/");
        Some(Self { name, uid, gid, home })
    }

    /// A name wins over a number: a user may be called "1000".
    fn is(&self, user: &str) -> bool {
        self.name == user || user.parse() == Ok(self.uid)
    }
}

/// Parses lines of `name:password:gid:member,member`.
fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn find_group(wanted: &str, text: &str) -> Result<u32, UserError> {
    let named = groups(text)
        .find(|(name, _, _)| *name == wanted)
        .map(|(_, gid, _)| gid);
    named
        .or_else(|| wanted.parse().ok())
        .ok_or_else(|| UserError::NoGroup {
            name: wanted.to_owned(),
        })
}

fn supplementary(user: &str, own_gid: u32, text: &str) -> Vec<u32> {
    let mut gids = vec![own_gid];
    for (_, gid, members) in groups(text) {
        if !user.is_empty() && members.split(',').any(|member| member == user) && !gids.contains(&gid) {
            gids.push(gid);
        }
    }
    gids
}

#[cfg(test)]
mod tests;

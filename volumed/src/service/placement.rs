//! Chooses a zone. Pure.

use crate::error::Refusal;
use crate::volume::{Volume, VolumeState};

#[cfg(test)]
mod tests;

/// What a request says about its place.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) app: String,
    pub(super) name: String,
    /// The zone named by the request.
    pub(super) zone: Option<String>,
    /// The zone of a fork's source, to be avoided.
    pub(super) not_zone: Option<String>,
    /// No other volume of the same name of the app in the zone.
    pub(super) unique_zone: bool,
    /// No other volume of the app in the zone.
    pub(super) unique_zone_app_wide: bool,
}

/// Returns the zone with the fewest volumes of the app, then the fewest of all, among those that the wish allows.
///
/// Deleted volumes do not count.
pub(super) fn choose(zones: &[String], volumes: &[Volume], wish: &Wish) -> Result<String, Refusal> {
    if let Some(zone) = &wish.zone
        && !zones.contains(zone)
    {
        let known = zones.join(", ");
        return Err(Refusal::invalid(format!(
            "zone {zone:?} is unknown; this node has {known}"
        )));
    }
    let counted: Vec<&Volume> = volumes.iter().filter(|v| counts(v)).collect();
    let mine = |zone: &str| {
        counted
            .iter()
            .filter(|v| v.zone == zone && v.app == wish.app)
            .count()
    };
    let namesakes = |zone: &str| {
        counted
            .iter()
            .filter(|v| v.zone == zone && v.app == wish.app && v.name == wish.name)
            .count()
    };
    let all = |zone: &str| counted.iter().filter(|v| v.zone == zone).count();
    let allowed = zones
        .iter()
        .filter(|zone| wish.zone.as_ref().is_none_or(|wanted| wanted == *zone));
    let allowed = allowed.filter(|zone| !(wish.unique_zone && wish.not_zone.as_ref() == Some(zone)));
    let allowed = allowed.filter(|zone| !(wish.unique_zone && namesakes(zone) > 0));
    let allowed = allowed.filter(|zone| !(wish.unique_zone_app_wide && mine(zone) > 0));
    let avoided = |zone: &String| wish.not_zone.as_ref() == Some(zone);
    let best = allowed.min_by_key(|zone| (avoided(zone), mine(zone), all(zone)));
    best.cloned().ok_or_else(|| no_zone(zones.len(), wish))
}

fn counts(volume: &Volume) -> bool {
    match volume.state {
        VolumeState::Creating
        | VolumeState::Created
        | VolumeState::Extending
        | VolumeState::Restoring
        | VolumeState::Hydrating
        | VolumeState::Draining
        | VolumeState::Recovering => true,
        VolumeState::SchedulingDestroy
        | VolumeState::PendingDestroy
        | VolumeState::Destroying
        | VolumeState::Destroyed => false,
    }
}

fn no_zone(zones: usize, wish: &Wish) -> Refusal {
    let (app, name) = (&wish.app, &wish.name);
    Refusal::placement(if wish.unique_zone_app_wide {
        format!(
            "each of the {zones} zones has a volume of app {app}; pass unique_zone_app_wide: false to share one"
        )
    } else if wish.not_zone.is_some() {
        format!(
            "a fork goes to another zone than its source, and none of the {zones} zones is free of volumes named {name}; \
             pass require_unique_zone: false to share one"
        )
    } else {
        format!(
            "every allowed zone (of {zones}) has a volume named {name} of app {app}; pass require_unique_zone: false to \
             share one"
        )
    })
}

//! Splits a command line into words, as a shell would without expanding anything. Pure.

/// Why a command line cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A quote without its end.
    #[error("the command has a {0} without its end")]
    Unclosed(char),
    /// A backslash with nothing behind it.
    #[error("the command ends in a backslash")]
    Dangling,
}

/// Splits `line`: blanks separate, single quotes keep everything, double quotes keep all but `\"` and `\\`, a
/// backslash keeps the next character.
///
/// # Errors
/// [`SplitError`].
pub fn split(line: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        None => return Err(SplitError::Unclosed('\'')),
                        Some('\'') => break,
                        Some(inner) => word.push(inner),
                    }
                }
            }
            '"' => double_quoted(&mut rest, word.get_or_insert_default())?,
            '\\' => word
                .get_or_insert_default()
                .push(rest.next().ok_or(SplitError::Dangling)?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), SplitError> {
    loop {
        match rest.next() {
            None => return Err(SplitError::Unclosed('"')),
            Some('"') => return Ok(()),
            Some('\\') => match rest.next().ok_or(SplitError::Unclosed('"'))? {
                kept @ ('"' | '\\' | '$' | '`') => word.push(kept),
                other => word.extend(['\\', other]),
            },
            Some(inner) => word.push(inner),
        }
    }
}

#[cfg(test)]
mod tests;

//! Where data and words go: data to one writer, words to another, colour and spinners only to a terminal.

use std::io::{IsTerminal as _, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;

/// How long a call may take before a spinner shows that it goes on.
const QUIET: Duration = Duration::from_secs(2);

/// Which of our streams are terminals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminal {
    /// Questions can be answered.
    pub stdin: bool,
    /// Colour makes sense.
    pub stdout: bool,
    /// Spinners make sense.
    pub stderr: bool,
}

impl Terminal {
    /// Looks at this process's streams.
    pub fn of_process() -> Self {
        Self {
            stdin: std::io::stdin().is_terminal(),
            stdout: std::io::stdout().is_terminal(),
            stderr: std::io::stderr().is_terminal(),
        }
    }
}

/// The writers of one command.
pub struct Output<'a> {
    data: &'a mut dyn Write,
    words: &'a mut dyn Write,
    terminal: Terminal,
    colour: bool,
}

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}

impl<'a> Output<'a> {
    /// Joins two writers.
    pub fn new(data: &'a mut dyn Write, words: &'a mut dyn Write, terminal: Terminal) -> Self {
        Self {
            data,
            words,
            terminal,
            colour: terminal.stdout,
        }
    }

    /// Switches colour off.
    pub fn without_colour(&mut self) {
        self.colour = false;
    }

    /// Writes a line of data.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        Ok(writeln!(self.data, "{}", text.as_ref())?)
    }

    /// Writes data as it is.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.data.write_all(bytes)?;
        Ok(self.data.flush()?)
    }

    /// Writes a value as JSON with four spaces of indentation, as `fly` does.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut *self.data, formatter);
        value.serialize(&mut serializer).map_err(std::io::Error::from)?;
        self.line("")
    }

    /// Writes a line for people.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn say(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        Ok(writeln!(self.words, "{}", text.as_ref())?)
    }

    /// Writes bytes for people.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn say_raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.words.write_all(bytes)?)
    }

    /// Makes text bold where that means something.
    pub fn bold(&self, text: &str) -> String {
        self.painted(text, "1")
    }

    /// Makes text green, yellow or red where that means something.
    pub fn painted(&self, text: &str, code: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// Asks a yes-or-no question, unless `yes` answers it.
    ///
    /// # Errors
    /// [`Failure::MissingYes`] where nobody can be asked, [`Failure::Declined`] when the answer is not yes.
    pub fn confirm(&mut self, yes: bool, question: &str) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        if !self.terminal.stdin {
            return Err(Failure::MissingYes {
                what: question.to_owned(),
            });
        }
        write!(self.words, "{question} [y/N] ")?;
        self.words.flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            Ok(())
        } else {
            Err(Failure::Declined)
        }
    }

    /// Awaits `work`; when it takes longer than two seconds a terminal shows a spinner with `message`.
    pub async fn during<T>(&self, message: &str, work: impl Future<Output = T>) -> T {
        if !self.terminal.stderr {
            return work.await;
        }
        tokio::pin!(work);
        if let Ok(done) = tokio::time::timeout(QUIET, &mut work).await {
            return done;
        }
        let spinner = ProgressBar::new_spinner().with_message(message.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(100));
        let done = work.await;
        spinner.finish_and_clear();
        done
    }

    /// Makes a bar over `total` bytes on a terminal, or one that shows nothing.
    pub fn bytes_bar(&self, total: u64, message: &str) -> ProgressBar {
        if !self.terminal.stderr {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(total)
            .with_style(style)
            .with_message(message.to_owned())
    }
}

#[cfg(test)]
mod tests;

use std::fmt;

/// A place where a crash can be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Before a step runs; everything earlier is recorded.
    Before,
    /// After a step's effect, before its record.
    After,
    /// Before an undo runs.
    BeforeUndo,
    /// After an undo's effect, before its record.
    AfterUndo,
}

impl Moment {
    /// Returns the word used in a kill specification.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::BeforeUndo => "undo-before",
            Self::AfterUndo => "undo-after",
        }
    }
}

/// What a probe wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Carry on.
    Continue,
    /// Stop the driver here, as a crash would: nothing more runs, nothing more is recorded.
    Drop,
}

/// Called around every step; the hook by which tests crash an operation at each of its steps.
pub trait Probe: Send + Sync + fmt::Debug {
    /// Decides whether to carry on. May also end the process.
    fn at(&self, kind: &str, step: &str, moment: Moment) -> Verdict;
}

/// The probe of production: never in the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProbe;

impl Probe for NoProbe {
    fn at(&self, _kind: &str, _step: &str, _moment: Moment) -> Verdict {
        Verdict::Continue
    }
}

/// Why a kill specification was refused.
#[derive(Debug, thiserror::Error)]
#[error("kill specification {spec:?} is not kind/step/before|after|undo-before|undo-after")]
pub struct ProbeSpecError {
    spec: String,
}

/// Ends the process by a function of the product's choice when one step is reached.
///
/// A test hook: products build it from an environment variable and pass a function that sends SIGKILL to itself.
pub struct KillProbe {
    kind: String,
    step: String,
    moment: String,
    kill: fn(),
}

impl fmt::Debug for KillProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KillProbe({}/{}/{})", self.kind, self.step, self.moment)
    }
}

impl KillProbe {
    /// Reads `kind/step/moment`; `*` stands for any kind or step.
    ///
    /// # Errors
    /// [`ProbeSpecError`] when it does not have that form.
    pub fn parse(spec: &str, kill: fn()) -> Result<Self, ProbeSpecError> {
        let bad = || ProbeSpecError {
            spec: spec.to_owned(),
        };
        let mut parts = spec.split('/');
        let (Some(kind), Some(step), Some(moment), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let known = [
            Moment::Before,
            Moment::After,
            Moment::BeforeUndo,
            Moment::AfterUndo,
        ];
        if !known.iter().any(|m| m.name() == moment) {
            return Err(bad());
        }
        Ok(Self {
            kind: kind.to_owned(),
            step: step.to_owned(),
            moment: moment.to_owned(),
            kill,
        })
    }
}

impl Probe for KillProbe {
    fn at(&self, kind: &str, step: &str, moment: Moment) -> Verdict {
        let is = |pattern: &str, value: &str| pattern == "*" || pattern == value;
        if is(&self.kind, kind) && is(&self.step, step) && self.moment == moment.name() {
            (self.kill)();
        }
        Verdict::Continue
    }
}

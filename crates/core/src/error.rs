//! The one error of the crate.
//!
//! Owns: what an operator must do about a failure (the kind) and the exit code that says so to a supervisor.
//! Does not own: bad records. Those are data and become dead letters (see [`crate::batch::DeadLetter`]).

use std::fmt;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Tells what the operator must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The persisted state contradicts itself or what is asked of it: look with `pintail verify`, repair, start again.
    State,
    /// Too many records were rejected: look at `pintail dead-letters`, fix the schema or the producer.
    DeadLetters,
    /// A stage panicked, or the engine failed in a way that no record explains: report it; a restart resumes.
    Internal,
    /// The disk or a pipe failed: fix it; a restart resumes.
    Io,
    /// Somebody else is in the way, or time ran out: start again later.
    TryAgain,
    /// The configuration, the SQL or the invocation is wrong: change it.
    Config,
}

impl ErrorKind {
    /// Returns the process' exit code, after `sysexits.h`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::State | Self::DeadLetters => 65,
            Self::Internal => 70,
            Self::Io => 74,
            Self::TryAgain => 75,
            Self::Config => 78,
        }
    }
}

/// A failure that stops a command or the line.
///
/// The message names the thing and the value, says why, and what to do; lower case, no full stop.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Source>,
}

impl Error {
    /// Makes an error without a cause beneath it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds the cause beneath.
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Makes a [`ErrorKind::State`] error.
    pub fn state(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::State, message)
    }

    /// Makes a [`ErrorKind::Internal`] error.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Makes a [`ErrorKind::TryAgain`] error.
    pub fn try_again(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TryAgain, message)
    }

    /// Makes a [`ErrorKind::Config`] error.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// Makes a [`ErrorKind::Io`] error: `doing` completes the sentence "cannot …". What was full, or gave no answer, for too long is [`ErrorKind::TryAgain`].
    pub fn io(doing: impl fmt::Display, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::TimedOut => ErrorKind::TryAgain,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("cannot {doing}")).with_source(source)
    }

    /// Calls settings by the flags that a command has for them. Each pair is a key and its flag.
    #[must_use]
    pub fn with_flags(mut self, flags: &[(&str, &str)]) -> Self {
        for (key, flag) in flags {
            self.message = self.message.replace(&format!("`{key}`"), &format!("`{flag}`"));
        }
        self
    }

    /// Returns whether the reader of our output has gone.
    pub fn is_broken_pipe(&self) -> bool {
        let cause = self.source.as_ref().and_then(|source| source.downcast_ref::<std::io::Error>());
        cause.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// Returns the number that the operating system gave the cause; `None` if it is not the system's.
    pub fn os_error(&self) -> Option<i32> {
        self.source.as_ref()?.downcast_ref::<std::io::Error>()?.raw_os_error()
    }

    /// Returns what the operator must do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    /// Writes the message and every cause beneath it, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source.as_deref().map(|s| s as &dyn std::error::Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

// `source` stays `None` here: `Display` has said the causes already, and a reporter would repeat them.
impl std::error::Error for Error {}

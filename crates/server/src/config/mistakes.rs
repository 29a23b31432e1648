//! Mistakes of the configuration: where each stands, what is wrong and what to do about it.
//!
//! Owns their collection and their text. Must not know any key.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a value was given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// In the defaults that are part of the program.
    Default,
    /// In the file, at this line; line 0 is the whole file.
    File(Arc<Path>, usize),
    /// In this environment variable.
    Environment(String),
    /// By this flag.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(file, 0) => write!(formatter, "{}", file.display()),
            Self::File(file, line) => write!(formatter, "{}:{line}", file.display()),
            Self::Environment(name) => formatter.write_str(name),
            Self::Flag(name) => formatter.write_str(name),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// The key, such as `server.listen`; empty where the mistake is not about one.
    pub key: String,
    /// What is wrong and what to do about it.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(formatter, "{}: {}", self.place, self.problem),
            key => write!(formatter, "{}: {key}: {}", self.place, self.problem),
        }
    }
}

/// Every mistake of a configuration, in the order of the file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// The mistakes, one after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, place: &Place, key: impl Into<String>, problem: impl Into<String>) {
        let mistake = Mistake {
            place: place.clone(),
            key: key.into(),
            problem: problem.into(),
        };
        // A key that is read twice is wrong once.
        if !self.0.contains(&mistake) {
            self.0.push(mistake);
        }
    }

    /// `value`, unless there are mistakes.
    pub(super) fn unless_any<T>(mut self, value: Option<T>) -> Result<T, Self> {
        self.0.sort_by_key(|mistake| match &mistake.place {
            Place::File(_, line) => (0, *line),
            Place::Environment(_) => (1, 0),
            Place::Flag(_) => (2, 0),
            Place::Default => (3, 0),
        });
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) => Err(self),
            None => {
                if self.0.is_empty() {
                    self.add(&Place::Default, "", "a default is missing; please report this");
                }
                Err(self)
            }
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => formatter.write_str("no mistakes"),
            [only] => write!(formatter, "{only}"),
            several => {
                write!(formatter, "{} mistakes in the configuration", several.len())?;
                for mistake in several {
                    write!(formatter, "\n  {mistake}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Mistakes {}

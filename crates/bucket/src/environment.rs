//! The variables of the environment that credentials and places come from.
//!
//! Owns: which variables are looked at.
//! Does not own: what they mean (see `credentials`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use pintail_core::error::{Error, Result};

/// Variables that the clients of the providers share with their own tools. Never shown: most of them are secrets.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Takes those of this process.
    pub fn of_this_process() -> Self {
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
    }

    /// Returns the first of these variables that is set, with its name. An empty one is none.
    pub(crate) fn first<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &str)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    /// Refuses what can be no part of a request: a secret that was made with a line end.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`], naming the variable.
    pub(crate) fn check(&self) -> Result<()> {
        // Keys of service accounts are JSON, which may have lines.
        let is_text = |name: &str| name.starts_with("GOOGLE_SERVICE_ACCOUNT") || matches!(name, "HOME" | "SERVICE_ACCOUNT");
        match self.0.iter().find(|(name, value)| !is_text(name) && value.contains(char::is_control)) {
            None => Ok(()),
            Some((name, _)) => Err(Error::config(format!(
                "the variable {name} holds a line end or another control character, which is no part of a credential or a name: set it without \
                 (`echo` adds a line end, `printf %s` does not)"
            ))),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns a path below the home directory.
    pub(crate) fn at_home(&self, below: &str) -> Option<PathBuf> {
        Some(PathBuf::from(self.get("HOME")?).join(below))
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let is_ours = |name: &str| {
            ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|prefix| name.starts_with(prefix))
                || matches!(name, "HOME" | "IDENTITY_ENDPOINT" | "MSI_ENDPOINT" | "SERVICE_ACCOUNT")
        };
        Self(variables.into_iter().filter(|(name, _)| is_ours(name)).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

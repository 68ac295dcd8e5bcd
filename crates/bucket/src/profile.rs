//! Profiles of AWS: `~/.aws/credentials` and `~/.aws/config`.
//!
//! Owns: reading static keys, the region and the endpoint of a profile, and naming what a profile has instead of keys.
//! Does not own: when a profile is looked at (see `credentials`).
//!
//! A profile that signs in by SSO, assumes a role or runs a program is refused by name: the AWS tools turn it into keys that everybody can use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pintail_core::error::{Error, Result};
use pintail_settings::raw::read_text;

use crate::environment::Environment;

/// A file of profiles has fewer bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Keys that never change.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

/// What a profile says.
#[derive(Default)]
pub(crate) struct Profile {
    pub keys: Option<Keys>,
    pub region: Option<String>,
    pub endpoint: Option<String>,
}

/// Reads a profile; `None` if there is none of that name.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if it has no keys but another way to get them, or a file cannot be read.
pub(crate) fn read(environment: &Environment, name: &str) -> Result<Option<Profile>> {
    let file = |variable: &str, below: &str| environment.get(variable).map(PathBuf::from).or_else(|| environment.at_home(below));
    let credentials = settings(file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"), name)?;
    let config_name = if name == "default" { name.to_owned() } else { format!("profile {name}") };
    let config = settings(file("AWS_CONFIG_FILE", ".aws/config"), &config_name)?;
    if credentials.is_none() && config.is_none() {
        return Ok(None);
    }
    let mut found = config.unwrap_or_default();
    found.extend(credentials.unwrap_or_default());
    let mut take = |key: &str| found.remove(key).filter(|value| !value.is_empty());
    let keys = match (take("aws_access_key_id"), take("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Some(Keys { id, secret, token: take("aws_session_token") }),
        (None, None) => None,
        _ => {
            return Err(Error::config(format!(
                "profile `{name}` of AWS has half a key: it needs aws_access_key_id and aws_secret_access_key"
            )));
        }
    };
    let (region, endpoint) = (take("region"), take("endpoint_url"));
    if keys.is_none()
        && let Some(other) = OTHERS.iter().find(|(key, _)| found.contains_key(*key))
    {
        return Err(refused(name, other.1));
    }
    Ok(Some(Profile { keys, region, endpoint }))
}

/// Keys of a profile that stand for another way to credentials.
const OTHERS: [(&str, &str); 6] = [
    ("sso_session", "signs in by SSO"),
    ("sso_start_url", "signs in by SSO"),
    ("login_session", "signs in by a browser"),
    ("credential_process", "runs a program for its keys"),
    ("web_identity_token_file", "assumes a role by a token"),
    ("role_arn", "assumes a role"),
];

fn refused(name: &str, does: &str) -> Error {
    Error::config(format!(
        "profile `{name}` of AWS {does}, which Pintail cannot: `aws configure export-credentials --profile {name} --format env` prints keys that it can \
         use, until they expire; a service has a role of its machine, or keys of its own"
    ))
}

/// Reads the settings of a section; `None` if there is no file or no such section.
fn settings(path: Option<PathBuf>, section: &str) -> Result<Option<BTreeMap<String, String>>> {
    let Some(path) = path else { return Ok(None) };
    match read_text(&path, FILE_BYTES_MAX) {
        Ok(text) => Ok(section_of(&text, section)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(&path, &error)),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::config(format!("cannot read the profiles of AWS in `{}`: {error}", path.display()))
}

fn section_of(text: &str, section: &str) -> Option<BTreeMap<String, String>> {
    let (mut inside, mut found) = (false, None);
    for line in text.lines() {
        let is_indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            inside = name.split_whitespace().eq(section.split_whitespace());
            if inside {
                found.get_or_insert_with(BTreeMap::new);
            }
            continue;
        }
        // What is indented belongs to the key above, such as `s3 =`: none of it is ours.
        if inside
            && !is_indented
            && let (Some(settings), Some((key, value))) = (found.as_mut(), line.split_once('='))
        {
            settings.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A home with these files.
    fn home(credentials: &str, config: &str) -> (tempfile::TempDir, Environment) {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
        std::fs::write(home.path().join(".aws/config"), config).unwrap();
        let environment = [("HOME".to_owned(), home.path().to_str().unwrap().to_owned())].into_iter().collect();
        (home, environment)
    }

    #[test]
    fn keys_come_from_credentials_and_the_region_from_config() {
        let credentials =
            "[other]\naws_access_key_id = no\n# a comment\n[lake]\naws_access_key_id=AKIA1\naws_secret_access_key = s3cr=et\n";
        let config = "[profile lake]\nregion = eu-central-1\ns3 =\n  region = wrong\nendpoint_url = https://s3.example\n[profile other]\nregion = x\n";
        let (_home, environment) = home(credentials, config);
        let profile = read(&environment, "lake").unwrap().unwrap();
        let keys = profile.keys.unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.as_str(), keys.token), ("AKIA1", "s3cr=et", None));
        assert_eq!((profile.region.as_deref(), profile.endpoint.as_deref()), (Some("eu-central-1"), Some("https://s3.example")));
        assert!(read(&environment, "nobody").unwrap().is_none());
    }

    #[test]
    fn a_profile_with_another_way_to_credentials_is_refused_with_the_way_out() {
        let config = "[profile work]\nsso_session = corp\nregion = eu-west-1\n[default]\ncredential_process = /bin/keys --secret hunter2\n";
        let (_home, environment) = home("", config);
        let sso = read(&environment, "work").err().unwrap().to_string();
        assert!(sso.contains("`work`") && sso.contains("SSO") && sso.contains("export-credentials --profile work"), "{sso}");
        let process = read(&environment, "default").err().unwrap().to_string();
        assert!(process.contains("runs a program") && !process.contains("hunter2"), "{process}");
    }

    #[test]
    fn half_a_key_is_refused_without_showing_it() {
        let (_home, environment) = home("[default]\naws_secret_access_key = hunter2\n", "");
        let half = read(&environment, "default").err().unwrap().to_string();
        assert!(half.contains("half a key") && !half.contains("hunter2"), "{half}");
    }
}

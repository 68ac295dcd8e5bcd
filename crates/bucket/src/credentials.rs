//! Where credentials come from.
//!
//! Owns: the order of places that are looked at, for each provider, and naming the ones that cannot be used.
//! Does not own: getting tokens from any of them, and getting them again before they expire (object_store).
//!
//! The first place that is set counts; whether its credentials are right, the provider says. No setting holds a credential: a configuration is shown,
//! hashed and copied.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use object_store::aws::AmazonS3ConfigKey as S3Key;
use object_store::azure::AzureConfigKey as AzureKey;
use object_store::gcp::GoogleConfigKey as GcsKey;
use pintail_core::error::{Error, Result};
use pintail_settings::raw::read_text;
use pintail_settings::values::SECRET_BYTES_MAX;

use crate::environment::Environment;
use crate::location::Provider;
use crate::meaning::other_credentials;
use crate::profile::{self, Keys, Profile};

/// Credentials, or the way to them.
pub(crate) struct Credentials<K> {
    /// What the builder of object_store is told.
    pub values: Vec<(K, String)>,
    /// Where they are from, in words.
    pub from: String,
}

impl<K> Credentials<K> {
    fn new(from: impl Into<String>, values: Vec<(K, String)>) -> Self {
        Self { values, from: from.into() }
    }

    /// Takes variables of the environment, and those of `also` that are set.
    fn variables<const N: usize>(
        environment: &Environment,
        needed: [(K, &[&str]); N],
        also: impl IntoIterator<Item = (K, &'static [&'static str])>,
    ) -> Option<Self> {
        let (mut values, mut from) = (Vec::new(), None);
        for (key, names) in needed {
            let (name, value) = environment.first(names)?;
            from.get_or_insert_with(|| format!("the variable {name}"));
            values.push((key, value.to_owned()));
        }
        values.extend(also.into_iter().filter_map(|(key, names)| Some((key, environment.first(names)?.1.to_owned()))));
        Some(Self { values, from: from? })
    }
}

/// Finds those of S3, and the profile of AWS that says the rest.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`], naming what is half there or cannot be used.
pub(crate) fn s3(environment: &Environment, profile: Option<&str>) -> Result<(Credentials<S3Key>, Profile)> {
    if let Some(name) = profile {
        return of_profile(environment, name, "`storage.profile`");
    }
    let named = environment.first(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]);
    let rest = || profile::read(environment, named.map_or("default", |(_, name)| name)).ok().flatten().unwrap_or_default();
    let (id, secret) = (environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY"));
    if let (Some(id), Some(secret)) = (id, secret) {
        let token = environment.get("AWS_SESSION_TOKEN").map(str::to_owned);
        let keys = Keys { id: id.to_owned(), secret: secret.to_owned(), token };
        return Ok((Credentials::new("the variable AWS_ACCESS_KEY_ID", values_of(keys)), rest()));
    }
    if id.is_some() || secret.is_some() {
        return Err(Error::config("one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is not set: set both, or none"));
    }
    if let Some((variable, name)) = named {
        return of_profile(environment, name, variable);
    }
    let web_identity = Credentials::variables(
        environment,
        [(S3Key::WebIdentityTokenFile, &["AWS_WEB_IDENTITY_TOKEN_FILE"]), (S3Key::RoleArn, &["AWS_ROLE_ARN"])],
        [(S3Key::RoleSessionName, &["AWS_ROLE_SESSION_NAME"] as &[_]), (S3Key::StsEndpoint, &["AWS_ENDPOINT_URL_STS"])],
    );
    let container = || {
        let relative = [(S3Key::ContainerCredentialsRelativeUri, &["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] as &[_])];
        Credentials::variables(environment, relative, [])
    };
    let pod = || {
        let needed = [
            (S3Key::ContainerCredentialsFullUri, &["AWS_CONTAINER_CREDENTIALS_FULL_URI"] as &[_]),
            (S3Key::ContainerAuthorizationTokenFile, &["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]),
        ];
        Credentials::variables(environment, needed, [])
    };
    if let Some(found) = web_identity.or_else(container).or_else(pod) {
        return Ok((found, rest()));
    }
    if let Some(mut profile) = profile::read(environment, "default")?
        && let Some(keys) = profile.keys.take()
    {
        return Ok((Credentials::new("the profile `default` of AWS", values_of(keys)), profile));
    }
    if environment.get("AWS_EC2_METADATA_DISABLED").is_some_and(|disabled| disabled.eq_ignore_ascii_case("true")) {
        return Err(Error::config(format!("no credentials for S3: {}", other_credentials(Provider::S3))));
    }
    let metadata = environment.first(&["AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_METADATA_ENDPOINT"]);
    let values = metadata.map(|(_, endpoint)| (S3Key::MetadataEndpoint, endpoint.to_owned())).into_iter().collect();
    Ok((Credentials::new("the role of this machine (instance metadata)", values), rest()))
}

fn of_profile(environment: &Environment, name: &str, said_by: &str) -> Result<(Credentials<S3Key>, Profile)> {
    let profile = profile::read(environment, name)?;
    let mut profile = profile.ok_or_else(|| {
        let why = "there is none of that name in ~/.aws/credentials and ~/.aws/config";
        Error::config(format!("{said_by} names the profile {name:?} of AWS: {why}"))
    })?;
    match profile.keys.take() {
        Some(keys) => Ok((Credentials::new(format!("the profile `{name}` of AWS"), values_of(keys)), profile)),
        None => Err(Error::config(format!(
            "{said_by} names the profile {name:?} of AWS, which has no keys: {}",
            other_credentials(Provider::S3)
        ))),
    }
}

fn values_of(keys: Keys) -> Vec<(S3Key, String)> {
    let token = keys.token.map(|token| (S3Key::Token, token));
    [(S3Key::AccessKeyId, keys.id), (S3Key::SecretAccessKey, keys.secret)].into_iter().chain(token).collect()
}

/// Finds those of GCS.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`], naming a file that cannot be used.
pub(crate) fn gcs(environment: &Environment) -> Result<Credentials<GcsKey>> {
    if let Some((name, token)) = environment.first(&["GOOGLE_BEARER_TOKEN"]) {
        return Ok(Credentials::new(format!("the variable {name}"), vec![(GcsKey::BearerToken, token.to_owned())]));
    }
    if let Some((name, key)) = environment.first(&["GOOGLE_SERVICE_ACCOUNT_KEY"]) {
        check_gcs(key, &format!("the variable {name}"))?;
        return Ok(Credentials::new(format!("the variable {name}"), vec![(GcsKey::ServiceAccountKey, key.to_owned())]));
    }
    let files = [
        ("GOOGLE_SERVICE_ACCOUNT", GcsKey::ServiceAccount),
        ("GOOGLE_SERVICE_ACCOUNT_PATH", GcsKey::ServiceAccount),
        ("SERVICE_ACCOUNT", GcsKey::ServiceAccount),
        ("GOOGLE_APPLICATION_CREDENTIALS", GcsKey::ApplicationCredentials),
    ];
    let named =
        files.into_iter().find_map(|(name, key)| Some((key, PathBuf::from(environment.get(name)?), format!("the variable {name}"))));
    let usual = || {
        let path = environment.at_home(".config/gcloud/application_default_credentials.json")?;
        path.exists().then(|| (GcsKey::ApplicationCredentials, path.clone(), "gcloud auth application-default login".to_owned()))
    };
    let Some((key, path, said_by)) = named.or_else(usual) else {
        return Ok(Credentials::new("the service account of this machine (metadata)", Vec::new()));
    };
    let shown = format!("`{}` ({said_by})", path.display());
    check_gcs(&read_key(&path, &shown)?, &shown)?;
    Ok(Credentials::new(shown, vec![(key, path.to_string_lossy().into_owned())]))
}

fn read_key(path: &Path, shown: &str) -> Result<String> {
    read_text(path, SECRET_BYTES_MAX).map_err(|e| Error::config(format!("cannot read the credentials of GCS in {shown}: {e}")))
}

/// Checks that a text is a key of a service account, or of a person. Nothing of it is shown.
fn check_gcs(text: &str, shown: &str) -> Result<()> {
    let json: serde_json::Value = serde_json::from_str(text).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        Error::config(format!(
            "the credentials of GCS in {shown} are no JSON (line {line}, column {column}): take the file as Google made it"
        ))
    })?;
    match json.get("type").and_then(serde_json::Value::as_str) {
        Some("service_account" | "authorized_user") | None => Ok(()),
        Some(kind @ ("external_account" | "external_account_authorized_user" | "impersonated_service_account")) => {
            Err(Error::config(format!(
                "the credentials of GCS in {shown} are of the type {kind:?}, which Pintail cannot use: run with a service account (GKE workload identity, \
             instance), or set GOOGLE_APPLICATION_CREDENTIALS to the file of a key of a service account"
            )))
        }
        Some(_) => Err(Error::config(format!(
            "the credentials of GCS in {shown} are of no type that is known: expected \"service_account\" or \"authorized_user\""
        ))),
    }
}

/// Finds those of Azure.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`], naming what cannot be used.
pub(crate) fn azure(environment: &Environment) -> Result<Credentials<AzureKey>> {
    const CLIENT: &[&str] = &["AZURE_CLIENT_ID", "AZURE_STORAGE_CLIENT_ID"];
    const TENANT: &[&str] = &["AZURE_TENANT_ID", "AZURE_STORAGE_TENANT_ID"];
    let host = || [(AzureKey::AuthorityHost, &["AZURE_AUTHORITY_HOST"] as &'static [&'static str])];
    let token = Credentials::variables(environment, [(AzureKey::Token, &["AZURE_STORAGE_TOKEN"])], []);
    let key = || {
        let needed = [(AzureKey::AccessKey, &["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY"] as &[_])];
        Credentials::variables(environment, needed, [])
    };
    let workload = || {
        let file: &[_] = &["AZURE_FEDERATED_TOKEN_FILE"];
        let needed = [(AzureKey::FederatedTokenFile, file), (AzureKey::ClientId, CLIENT), (AzureKey::AuthorityId, TENANT)];
        Credentials::variables(environment, needed, host())
    };
    let secret = || {
        let secret: &[_] = &["AZURE_CLIENT_SECRET", "AZURE_STORAGE_CLIENT_SECRET"];
        let needed = [(AzureKey::ClientSecret, secret), (AzureKey::ClientId, CLIENT), (AzureKey::AuthorityId, TENANT)];
        Credentials::variables(environment, needed, host())
    };
    let sas = || {
        let needed = [(AzureKey::SasKey, &["AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"] as &[_])];
        Credentials::variables(environment, needed, [])
    };
    let cli = || {
        let asked = environment.get("AZURE_USE_AZURE_CLI").is_some_and(|asked| asked.eq_ignore_ascii_case("true"));
        asked.then(|| Credentials::new("the tool `az` (AZURE_USE_AZURE_CLI)", vec![(AzureKey::UseAzureCli, "true".to_owned())]))
    };
    if let Some(found) = token.or_else(key).or_else(workload).or_else(secret).or_else(sas).or_else(cli) {
        check_azure(&found)?;
        return Ok(found);
    }
    if environment.get("AZURE_STORAGE_CONNECTION_STRING").is_some() {
        return Err(Error::config(
            "AZURE_STORAGE_CONNECTION_STRING is not read: set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN to what it holds, and `storage.account`",
        ));
    }
    let also = [
        (AzureKey::ClientId, CLIENT),
        (AzureKey::ObjectId, &["AZURE_OBJECT_ID"] as &[_]),
        (AzureKey::MsiResourceId, &["AZURE_MSI_RESOURCE_ID"]),
        (AzureKey::MsiEndpoint, &["IDENTITY_ENDPOINT", "AZURE_MSI_ENDPOINT", "MSI_ENDPOINT"]),
    ];
    let values = also.into_iter().filter_map(|(key, names)| Some((key, environment.first(names)?.1.to_owned()))).collect();
    Ok(Credentials::new("the managed identity of this machine", values))
}

/// Checks the form of a key and of a SAS. Nothing of it is shown.
fn check_azure(credentials: &Credentials<AzureKey>) -> Result<()> {
    let broken = |what: &str| Err(Error::config(format!("{} holds no {what}: copy it again", credentials.from)));
    match credentials.values.first() {
        Some((AzureKey::AccessKey, key)) if BASE64_STANDARD.decode(key).is_err() => broken("key of an account (base64)"),
        Some((AzureKey::SasKey, sas)) if !sas.contains("sig=") => broken("SAS (a text such as \"sv=…&sig=…\")"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_first_place_of_s3_that_is_set_counts() {
        let from = |variables: &[(&str, &str)]| s3(&environment(variables), None).map(|(found, _)| found.from);
        let keys = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
        let irsa = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x")];
        assert_eq!(from(&[keys, irsa].concat()).unwrap(), "the variable AWS_ACCESS_KEY_ID");
        assert_eq!(from(&irsa).unwrap(), "the variable AWS_WEB_IDENTITY_TOKEN_FILE");
        assert_eq!(
            from(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")]).unwrap(),
            "the variable AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
        );
        assert_eq!(from(&[]).unwrap(), "the role of this machine (instance metadata)");
        let none = from(&[("AWS_EC2_METADATA_DISABLED", "true")]).unwrap_err().to_string();
        assert!(none.contains("AWS_PROFILE"), "{none}");
        let half = from(&[("AWS_SECRET_ACCESS_KEY", "hunter2")]).unwrap_err().to_string();
        assert!(half.contains("AWS_ACCESS_KEY_ID") && !half.contains("hunter2"), "{half}");
        let unknown = from(&[("AWS_PROFILE", "lake"), ("HOME", "/nowhere")]).unwrap_err().to_string();
        assert!(unknown.contains("AWS_PROFILE names the profile \"lake\""), "{unknown}");
    }

    #[test]
    fn an_external_account_of_gcs_is_refused_by_name_and_broken_keys_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.json");
        let path = file.to_str().unwrap();
        let refused = |text: &str| {
            std::fs::write(&file, text).unwrap();
            gcs(&environment(&[("GOOGLE_APPLICATION_CREDENTIALS", path)])).err().unwrap().to_string()
        };
        let external = refused(r#"{"type":"external_account","token":"hunter2"}"#);
        assert!(
            external.contains("\"external_account\"") && external.contains("workload identity") && external.contains(path),
            "{external}"
        );
        let broken = refused(r#"{"type":"service_account","private_key":"hunter2"#);
        assert!(broken.contains("no JSON") && !broken.contains("hunter2"), "{broken}");
        let metadata = gcs(&environment(&[("HOME", "/nowhere")])).unwrap();
        assert_eq!((metadata.values.len(), metadata.from.as_str()), (0, "the service account of this machine (metadata)"));
    }

    #[test]
    fn keys_of_azure_are_looked_at_before_a_provider_is_asked_and_not_shown() {
        let found = azure(&environment(&[("AZURE_STORAGE_SAS_TOKEN", "sv=2022&sig=abc")])).unwrap();
        assert_eq!(found.from, "the variable AZURE_STORAGE_SAS_TOKEN");
        for variables in [[("AZURE_STORAGE_ACCOUNT_KEY", "hunter2!")], [("AZURE_STORAGE_SAS_TOKEN", "hunter2!")]] {
            let broken = azure(&environment(&variables)).err().unwrap().to_string();
            assert!(broken.contains(variables[0].0) && !broken.contains("hunter2"), "{broken}");
        }
        let string = azure(&environment(&[("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=hunter2")])).err().unwrap().to_string();
        assert!(string.contains("is not read") && !string.contains("hunter2"), "{string}");
        let workload =
            [("AZURE_FEDERATED_TOKEN_FILE", "/token"), ("AZURE_CLIENT_ID", "c"), ("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_SECRET", "s")];
        assert_eq!(azure(&environment(&workload)).unwrap().from, "the variable AZURE_FEDERATED_TOKEN_FILE");
    }
}

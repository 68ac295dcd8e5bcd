//! `source.type = "nats"`: its keys.
//!
//! Owns: servers, stream and subject, the ways to log in, the files of TLS; what each may be.
//! Does not own: whether they can be reached (see `source::nats`), the keys that every source has (see `sections`).

use pintail_core::secret::Secret;
use pintail_sources::nats::config::{NatsConfig, NatsLogin, NatsSecret, NatsTls};

use super::reader::Section;
use super::sections::on_gap;
use super::values;

/// The keys of this source, some of which others have as well.
pub(super) const OWN_KEYS: [&str; 17] = [
    "url",
    "stream",
    "subject",
    "consumer",
    "unacknowledged_max",
    "on_gap",
    "credentials_file",
    "nkey_file",
    "user",
    "password",
    "password_file",
    "token",
    "token_file",
    "tls",
    "tls_ca_file",
    "tls_cert_file",
    "tls_key_file",
];

/// Takes the keys.
pub(super) fn read(section: &mut Section<'_>) -> NatsConfig {
    if !section.has("stream") {
        section.fault("stream", "missing: `source.type = \"nats\"` needs the name of a stream, such as \"EVENTS\"");
    }
    let urls = section.list("url", &["nats://127.0.0.1:4222"], server);
    if urls.is_empty() && !section.is_faulty("url") {
        section.fault("url", "expected at least one server, such as \"nats://127.0.0.1:4222\"");
    }
    NatsConfig {
        urls,
        stream: section.optional_text("stream", name).unwrap_or_default(),
        subject: section.optional_text("subject", subject),
        consumer: section.text("consumer", "pintail", name),
        // About 150 bytes each while they wait for their commit.
        unacknowledged_max: section.count("unacknowledged_max", 200_000, 1_000..=10_000_000),
        on_gap: on_gap(section),
        login: login(section),
        tls: tls(section),
    }
}

fn login(section: &mut Section<'_>) -> NatsLogin {
    let ways = ["credentials_file", "nkey_file", "user", "token", "token_file"];
    let given: Vec<_> = ways.into_iter().filter(|key| section.has(key)).collect();
    if let [first, second, ..] = given[..] {
        section.fault(second, format_args!("given together with `source.{first}`: one way to log in is enough, leave the others out"));
    }
    let user_given = section.has("user");
    let password_given = section.has("password") || section.has("password_file");
    let credentials = section.optional_text("credentials_file", values::path).map(NatsLogin::CredentialsFile);
    let nkey = section.optional_text("nkey_file", values::path).map(NatsLogin::NkeyFile);
    let user = section.optional_text("user", values::name);
    let token = secret(section, "token", "token_file");
    let password = secret(section, "password", "password_file");
    if !user_given && password_given {
        section.fault("user", "missing: a password is given");
    }
    if user_given && !password_given {
        let how = "missing: `source.user` is given; set it in the environment (PINTAIL_SOURCE__PASSWORD) or name a `password_file`";
        section.fault("password", how);
    }
    let user = user.zip(password).map(|(user, password)| NatsLogin::User { user, password });
    credentials.or(nkey).or(user).or(token.map(NatsLogin::Token)).unwrap_or(NatsLogin::None)
}

/// A secret under `key`, or in the file under `file_key`.
fn secret(section: &mut Section<'_>, key: &str, file_key: &str) -> Option<NatsSecret> {
    let given = section.has(key);
    if given && section.has(file_key) {
        section.fault(file_key, format_args!("given together with `source.{key}`: leave one of them out"));
    }
    let value = section.secret(key).map(|text| NatsSecret::Value(Secret::new(text)));
    if given && value.is_none() && !section.is_faulty(key) {
        // An empty variable of the environment is a secret that somebody forgot to fill in, not a login without one.
        section.fault(key, "expected a text that is not empty");
    }
    let file = section.optional_text(file_key, values::path).map(NatsSecret::File);
    value.or(file)
}

fn tls(section: &mut Section<'_>) -> NatsTls {
    let required = section.boolean("tls", false);
    let ca_file = section.optional_text("tls_ca_file", values::path);
    for (key, other) in [("tls_cert_file", "tls_key_file"), ("tls_key_file", "tls_cert_file")] {
        if section.has(key) && !section.has(other) {
            section.fault(other, format_args!("missing: `source.{key}` is given, and one is of no use without the other"));
        }
    }
    let certificate = section.optional_text("tls_cert_file", values::path);
    let key = section.optional_text("tls_key_file", values::path);
    NatsTls { required, ca_file, client: certificate.zip(key) }
}

/// A server of NATS. Checked without a parser of URLs: what is between scheme and port is a host name or address.
fn server(text: &str) -> Result<String, String> {
    let wanted = || "expected a server, such as \"nats://127.0.0.1:4222\" or \"tls://nats.example.com:4222\"".to_owned();
    let rest = text.strip_prefix("nats://").or_else(|| text.strip_prefix("tls://")).ok_or_else(wanted)?;
    if rest.contains('@') {
        return Err("a password does not belong into a URL, which is logged: use `source.user`, `source.token` and their like".into());
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match (rest.strip_prefix('['), rest.rsplit_once(':')) {
        (Some(v6), _) => v6.split_once(']').map(|(host, port)| (host, port.strip_prefix(':'))).ok_or_else(wanted)?,
        (None, Some((host, port))) => (host, Some(port)),
        (None, None) => (rest, None),
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let host_fits = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#".contains(c));
    if port_fits && host_fits { Ok(text.to_owned()) } else { Err(wanted()) }
}

/// The name of a stream or a consumer of NATS.
fn name(text: &str) -> Result<String, String> {
    let name = values::name(text)?;
    match name.chars().find(|c| c.is_whitespace() || c.is_control() || ".*>/\\".contains(*c)) {
        Some(c) => Err(format!("{c:?} cannot be in the name of a stream or consumer")),
        None => Ok(name),
    }
}

/// A subject of NATS, which may have wildcards: `events.*.eu`, `events.>`.
fn subject(text: &str) -> Result<String, String> {
    let wanted = || "expected a subject, such as \"events.eu\", \"events.*\" or \"events.>\"".to_owned();
    let tokens: Vec<_> = text.split('.').collect();
    let last = tokens.len() - 1;
    let fits = |(index, token): (usize, &&str)| match *token {
        "*" => true,
        ">" => index == last,
        token => !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c.is_control() || "*>".contains(c)),
    };
    if tokens.iter().enumerate().all(fits) { Ok(text.to_owned()) } else { Err(wanted()) }
}

#[cfg(test)]
mod tests {
    use pintail_sources::OnGap;

    use super::super::SourceKind;
    use super::super::tests::{assert_fault, faults, load};
    use super::*;

    fn nats(sets: &[&str]) -> NatsConfig {
        let all: Vec<_> = ["source.type=nats", "source.stream=EVENTS"].into_iter().chain(sets.iter().copied()).collect();
        match load(&[], &all).unwrap().source.kind {
            SourceKind::Nats(nats) => nats,
            other => panic!("not NATS: {other:?}"),
        }
    }

    #[track_caller]
    fn assert_nats_fault(set: &str, expected: &str) {
        assert_fault(&["source.type=nats", "source.stream=EVENTS", set], expected);
    }

    #[test]
    fn a_stream_of_nats_needs_no_more_than_its_name() {
        let config = nats(&[]);
        assert_eq!((config.urls.as_slice(), config.stream.as_str()), (["nats://127.0.0.1:4222".to_owned()].as_slice(), "EVENTS"));
        assert!(matches!((config.subject, config.login, config.on_gap), (None, NatsLogin::None, OnGap::Refuse)));
        assert_fault(&["source.type=nats"], "`source.stream`: missing");
    }

    #[test]
    fn servers_streams_and_subjects_of_nats_are_checked_each_by_its_key() {
        assert_eq!(nats(&["source.url=[\"tls://a.example\", \"nats://[::1]:4222\"]"]).urls.len(), 2);
        for url in ["localhost:4222", "http://a", "nats://", "nats://a:0", "nats://a:70000", "nats://a b", "nats://[::1"] {
            assert_nats_fault(&format!("source.url={url}"), "expected a server, such as");
        }
        assert_nats_fault("source.stream=a.b", "'.' cannot be in the name");
        for subject in ["events..eu", "events.>.eu", ".", "a b", "a*"] {
            assert_nats_fault(&format!("source.subject={subject}"), "expected a subject, such as");
        }
        assert_eq!(nats(&["source.subject=events.*.>"]).subject.as_deref(), Some("events.*.>"));
        assert_nats_fault("source.tls_cert_file=a.pem", "`source.tls_key_file`: missing");
    }

    #[test]
    fn one_way_to_log_in_is_taken_and_no_secret_is_ever_shown() {
        let config = nats(&["source.user=ann", "source.password=hunter2"]);
        assert!(
            matches!(&config.login, NatsLogin::User { user, password: NatsSecret::Value(word) } if user == "ann" && word.reveal() == "hunter2")
        );
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(matches!(nats(&["source.token_file=t"]).login, NatsLogin::Token(NatsSecret::File(_))));
        assert_nats_fault("source.user=ann", "`source.password`: missing");
        assert_nats_fault("source.password=hunter2", "`source.user`: missing");
        let faulty = [
            vec!["source.type=nats", "source.stream=S", "source.user=ann", "source.password=hunter2", "source.token=hunter2"],
            vec!["source.type=nats", "source.stream=S", "source.url=nats://ann:hunter2@host"],
            vec!["source.type=stdin", "source.password=hunter2"],
        ];
        for sets in faulty {
            let found = faults(load(&[], &sets));
            assert!(!found.contains("hunter2"), "{found}");
        }
        let hash = |password: &str| load(&[], &["source.type=nats", "source.stream=S", "source.user=a", password]).unwrap().sha256;
        assert_eq!(hash("source.password=hunter2"), hash("source.password=hunter3"), "a hash of a short secret would give it away");
    }
}

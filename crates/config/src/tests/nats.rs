//! `source.type = "nats"`.

use pintail_sources::OnGap;
use pintail_sources::nats::config::*;

use super::{assert_fault, faults, load};

fn nats(sets: &[&str]) -> NatsConfig {
    let all: Vec<_> = ["source.type=nats", "source.stream=EVENTS"].into_iter().chain(sets.iter().copied()).collect();
    load(&[], &all).unwrap().source.settings::<NatsConfig>().unwrap().clone()
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

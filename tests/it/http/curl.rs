//! `curl`, as a user has it: over TLS, compressed, and the example.

use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::common::lines::{ids, line, lines};
use crate::common::{Dataset, checkout};

fn curl(directory: &Path, arguments: &[&str]) -> Output {
    Command::new("curl").current_dir(directory).args(["--silent", "--show-error", "--max-time", "20"]).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn curl_sends_over_tls_with_a_token_and_not_without_them() {
    let dataset = Dataset::new();
    let (cert, key) = (checkout("tests/it/http/server.pem"), checkout("tests/it/http/server.key"));
    let tls = dataset.push().set("source.tls_cert_file", cert.as_str()).set("source.tls_key_file", key);
    let mut process = tls.env("PINTAIL_SOURCE__TOKEN", "a-token-from-the-environment").spawn();
    let address = process.http();
    let url = format!("https://localhost:{}/v1/events", address.port());
    dataset.write("events.ndjson", lines(0..30_000));
    let ndjson = "Content-Type: application/x-ndjson";
    let token = "Authorization: Bearer a-token-from-the-environment";
    let send = |more: &[&str]| text(&curl(dataset.root(), &[&["--cacert", &cert, "-H", ndjson], more, &[&url]].concat()));
    // More than a megabyte: curl asks before it sends.
    assert_eq!(send(&["-H", token, "--data-binary", "@events.ndjson"]), "{\"accepted\":30000,\"offset\":0}\n");
    assert_eq!(send(&["-H", token, "-d", line(30_000).trim()]), "{\"accepted\":1,\"offset\":30000}\n");
    let refused = send(&["-w", "%{http_code}", "--data-binary", "@events.ndjson"]);
    assert!(refused.ends_with("401") && refused.contains("a token is needed"), "{refused}");
    let stranger = text(&curl(dataset.root(), &["-H", ndjson, "-d", "{}", &url]));
    assert!(stranger.contains("certificate"), "who does not know the certificate sends nothing: {stranger}");
    let plain = text(&curl(dataset.root(), &["-H", ndjson, "-H", token, "-d", "{}", &format!("http://{address}/v1/events")]));
    assert!(!plain.contains("accepted"), "{plain}");
    process.wait_for_committed(30_001);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..30_001));
}

#[test]
fn the_example_takes_what_its_comment_sends() {
    let dataset = Dataset::new();
    let example = checkout("examples/http.toml");
    let run = dataset.pintail().example(&example).set("source.listen", "127.0.0.1:0").set("pipeline.checkpoint_interval", "100ms");
    let mut process = run.spawn();
    let address = process.http().to_string();
    // The comment's shell commands, to the letter but for the address.
    let text_of_example = std::fs::read_to_string(&example).unwrap();
    let commands: String = text_of_example.lines().filter_map(|line| line.strip_prefix("#     ")).map(|line| format!("{line}\n")).collect();
    let sends = commands.split_once("pintail --config examples/http.toml\n").unwrap().1.split_once("pintail query").unwrap().0;
    let script = sends.replace("127.0.0.1:8088", &address).replace("curl ", "curl --silent --show-error --max-time 20 ");
    let output = Command::new("sh").current_dir(dataset.root()).args(["-ec", &script]).output().unwrap();
    let answers = "{\"accepted\":1,\"offset\":0}\n{\"accepted\":3,\"offset\":1}\n{\"accepted\":2,\"offset\":4}\n";
    assert_eq!(text(&output), answers, "{script}");
    process.wait_for_committed(6);
    process.stop(Signal::TERM).assert_code(0);
    let sql = "SELECT shop, count(*) AS n, sum(price)::INTEGER AS sum FROM events GROUP BY shop ORDER BY shop";
    let found = dataset.pintail().args(["query", sql, "--format", "csv"]).run_ok().stdout;
    assert_eq!(found, "shop,n,sum\nberlin,3,30\nboston,3,60\n");
    dataset.assert_clean();
}

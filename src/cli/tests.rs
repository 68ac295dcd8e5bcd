use clap::CommandFactory;

use super::*;

fn read(arguments: &[&str]) -> Result<Cli, clap::Error> {
    Cli::read(["pintail"].iter().chain(arguments).map(OsString::from))
}

#[test]
fn the_definition_holds_together() {
    <Cli as CommandFactory>::command().debug_assert();
}

#[test]
fn no_line_of_any_help_is_wider_than_a_terminal() {
    let mut cli = <Cli as CommandFactory>::command();
    cli.build();
    let mut commands: Vec<clap::Command> = cli.get_subcommands().cloned().collect();
    assert!(commands.len() > 10, "the commands and `help`");
    commands.push(cli);
    for mut command in commands {
        for help in [command.render_help(), command.render_long_help()] {
            let help = help.to_string();
            let wide = help.lines().find(|line| line.chars().count() > HELP_COLUMNS);
            assert_eq!(wide, None, "`pintail {} --help`", command.get_name());
        }
    }
}

#[test]
fn help_has_each_command_in_one_group() {
    let mut cli = <Cli as CommandFactory>::command();
    cli.build();
    let commands = cli.get_subcommands().filter(|command| !command.is_hide_set()).map(clap::Command::get_name);
    let mut commands: Vec<&str> = commands.filter(|name| *name != "help").collect();
    // The two columns before a name tell it from the lines of a heading.
    let listed = TEMPLATE.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let mut listed: Vec<&str> = listed.collect();
    commands.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, commands);
}

#[test]
fn no_command_runs_the_line() {
    let cli = read(&["--set", "source.limit=5"]).unwrap();
    assert_eq!(cli.command(), Command::Run { take_over: false, accept: false, child_of: None, options: Options::default() });
    assert_eq!(cli.sets(), ["source.limit=5"]);
}

#[test]
fn settings_before_and_behind_the_command_both_count_and_the_last_one_wins() {
    let cli = read(&["--set", "a=1", "--config", "one", "run", "--set", "b=2", "--config", "two", "-v", "--log-format", "json"]).unwrap();
    assert_eq!(cli.sets(), ["log.level=debug", "log.format=json", "a=1", "b=2"]);
    assert_eq!(cli.config(), Some(Path::new("two")));
}

#[test]
fn every_command_takes_its_arguments() {
    let command = |arguments: &[&str]| read(arguments).unwrap().command();
    assert!(matches!(command(&["check"]), Command::Check { .. }));
    assert!(matches!(command(&["health"]), Command::Health { .. }));
    assert!(matches!(command(&["config", "--explain", "sink"]), Command::Config { explain: Some(_), schema: false, .. }));
    assert!(read(&["config"]).is_err() && read(&["config", "--schema", "--explain", "sink"]).is_err());
    let wishes = Wishes { partition_by: Some(vec!["a".into(), "b".into()]), event_time: Some(String::new()), sql: None };
    let load = ["load", "a", "b", "--to", "lake", "--partition-by", "a,b", "--event-time", ""];
    assert!(matches!(command(&load), Command::Load { files, wishes: known, .. } if files.len() == 2 && known == wishes));
    assert!(read(&["load", "a"]).is_err() && read(&["load", "--to", "lake"]).is_ok());
    assert!(matches!(command(&["init", "f"]), Command::Init { output, force: false, .. } if output == Path::new("pintail.toml")));
    assert!(matches!(command(&["test", "a", "b", "--update"]), Command::Test { names, update: true, .. } if names.len() == 2));
    assert!(matches!(command(&["plan", "new.toml", "--records", "7"]), Command::Plan { records, .. } if records.get() == 7));
    assert!(matches!(command(&["infer", "f", "--records", "7"]), Command::Infer { records, .. } if records.get() == 7));
    assert!(matches!(command(&["verify", "lake", "--since", "3"]), Command::Verify { out: Some(_), since: Some(3), fast: false, .. }));
    let before = |text: &str| match command(&["expire", "--before", text]) {
        Command::Expire { before: Some(before), take_back: false, .. } => before.to_rfc3339(),
        other => panic!("{other:?}"),
    };
    assert_eq!(before("2026-01-31"), "2026-01-31T00:00:00+00:00");
    assert_eq!(before("2026-01-31T01:00:00+02:00"), "2026-01-30T23:00:00+00:00");
    assert!(matches!(command(&["expire", "--take-back"]), Command::Expire { before: None, take_back: true, .. }));
    assert!(read(&["expire"]).is_err() && read(&["expire", "--take-back", "--before", "2026-01-31"]).is_err());
    assert!(read(&["expire", "--before", "yesterday"]).is_err() && read(&["run", "--accept", "--take-over"]).is_err());
    assert!(matches!(
        command(&["repair", "--journal"]),
        Command::Repair { what: Repairs { journal: true, key: false, snapshot: false }, .. }
    ));
    assert!(read(&["repair"]).is_err() && read(&["repair", "--journal", "--key"]).is_err());
    assert!(matches!(command(&["verify"]), Command::Verify { out: None, since: None, fast: false, .. }));
    assert!(matches!(command(&["query", "SELECT 1", "--format", "csv"]), Command::Query { format: QueryFormat::Csv, .. }));
    assert!(matches!(command(&["dead-letters", "--samples", "0", "--replay"]), Command::DeadLetters { samples: 0, replay: true, .. }));
    assert!(read(&["dead-letters", "--accept", "--replay"]).is_err());
}

#[test]
fn a_wrong_invocation_is_a_wrong_configuration_and_help_is_none() {
    assert_eq!(exit_code(&read(&["--no-such-flag"]).unwrap_err()), 78);
    assert_eq!(exit_code(&read(&["infer", "f", "--records", "0"]).unwrap_err()), 78);
    let named = read(&["check", "pintail.toml"]).unwrap_err();
    assert!(named.to_string().contains("a configuration is named by `--config pintail.toml`"), "{named}");
    assert_eq!(exit_code(&read(&["repair"]).unwrap_err()), 78, "it must be said what is to be repaired");
    assert_eq!(exit_code(&read(&["--help"]).unwrap_err()), 0);
    assert_eq!(exit_code(&read(&["--version"]).unwrap_err()), 0);
}

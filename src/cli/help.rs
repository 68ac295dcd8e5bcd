//! The texts of `--help` that clap does not make of the definition: the commands by what they are for, and examples.
//!
//! Does not own: the commands and their flags (see [`super::Cli`]).

/// `pintail --help`, with the commands in groups.
pub(super) const TEMPLATE: &str = "\
{about-with-newline}
{usage-heading} {usage}

Try it on your own data:
  demo          Show in half a minute that a kill loses and doubles nothing
  load          Load files, or a pipe, into a dataset. Needs no configuration
  init          Write a configuration that fits a sample, and check it
  infer         Print a schema that fits a sample

Run it:
  run           Run until the input ends or a signal comes. The default command
  check         Tell every fault before it runs, and the output columns
  health        Tell by the exit code whether a service runs: for containers

Read what it wrote:
  query         Run read-only SQL over the committed files
  verify        Check that every committed file is as its record says
  dead-letters  Show the rejected records by reason; replay or accept them
  publish       Publish it as a table (Delta, Iceberg) for Spark and others

Change a configuration:
  test          Put fixtures through the schema and the SQL
  plan          Say what another configuration would change
  config        Explain a key, or print a JSON Schema for editors

Keep it in order:
  compact       Make few files of the many small ones of closed hours
  expire        Declare that files with old rows may be gone

Repair the ledger:
  adopt         Record the files that are there and that no record names
  repair        Give up what cannot be trusted, where no start is possible

For packages:
  completions   Print the completions of a shell
  man           Print the man page, of the program or of a command

Options:
{options}{after-help}";

/// Behind the options of `pintail --help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  pintail demo                             half a minute, two kills, no loss
  pintail                                  simulated events into checkpoints/
  pintail --set source.type=file --set 'source.path=events/*.ndjson'
  pintail load 'logs/*.ndjson' --to lake   files into a lake, and done
  pintail init events.ndjson               a configuration, checked
  pintail run --config pintail.toml
  pintail query 'SELECT region, count(*) FROM events GROUP BY region'
  pintail test --config pintail.toml       fixtures through the SQL
  pintail plan new.toml --config pintail.toml  what would another SQL change?
  OUT_PATH=/lake pintail verify            is every file as its record says?

Settings, the last one wins:
  defaults, --config FILE, environment (PINTAIL_SOURCE__LIMIT=1000000),
  --set source.limit=1000000. config.example.toml lists every key.

Exit codes:
  0   done
  1   `test`: a fixture failed; `demo`: the datasets differ
  65  stored state contradicts itself, or too many dead letters
  70  internal error
  74  input or output failed
  75  try again later
  78  wrong configuration
  130 or 143, after a second SIGINT or SIGTERM: left at once";

/// The examples of `config --help`.
pub(super) const CONFIG_EXAMPLES: &str = "\
Examples:
  pintail config --explain source.follow
  pintail config --explain sink                  lists the keys of a section
  pintail config --schema > pintail.schema.json

With `#:schema ./pintail.schema.json` as its first line, editors that know
Taplo complete and check a configuration as it is typed.";

/// The examples of `load --help`.
pub(super) const LOAD_EXAMPLES: &str = "\
Examples:
  pintail load events.ndjson --to lake
  pintail load 'logs/*.ndjson.gz' --to lake --partition-by shop
  zcat old.ndjson.gz | pintail load --to lake \\
      --sql 'SELECT id, lower(shop) AS shop, price FROM events'

The same line again loads what is new, and nothing twice: files by their
content, a pipe by its first KiB. After a kill it goes on. What cannot become
a row is kept: OUT_PATH=lake pintail dead-letters";

/// The examples of `init --help`.
pub(super) const INIT_EXAMPLES: &str = "\
Examples:
  pintail init events.ndjson
  pintail init 'logs/*.ndjson' --partition-by shop --event-time time
  kcat -b broker -t sales -C -e | pintail init - -o sales.toml
  pintail init events.ndjson -o - | less

Columns that are not named are chosen from the sample, and said. On a terminal
it asks where there is a choice.";

/// The examples of `test --help`.
pub(super) const TEST_EXAMPLES: &str = "\
A fixture is a directory in tests/, beside the configuration:
  tests/refunds/input.ndjson          what comes in
  tests/refunds/expected.ndjson       the rows that come out, in any order
  tests/refunds/dead_letters.ndjson   what is rejected: line, phase, reason

Examples:
  pintail test --config pintail.toml
  pintail test --config pintail.toml refunds
  pintail test --config pintail.toml --update   takes what comes for expected

A row says what it says: numbers by value, a null as a missing key. Of a dead
letter, the keys that are given count. Exit code 1 if a fixture fails.";

/// The examples of `plan --help`.
pub(super) const PLAN_EXAMPLES: &str = "\
Examples:
  pintail plan new.toml --config pintail.toml
  pintail plan new.toml --config pintail.toml --dead-letters
  pintail plan new.toml                   beside the one service that runs

Nothing is changed. Exit code 78 if the dataset would refuse the new one.";

//! Rewriting an expression of the SQL into forms that tell on which records it fails, and do not fail themselves.
//!
//! Owns: the forms, and which parts of an expression are always evaluated.
//! Does not own: which expressions are looked at, the queries around the forms (see `probe`).
//!
//! Expressions are DuckDB's syntax tree as JSON; DuckDB itself writes them as SQL again.

use serde_json::{Value, json};

use crate::session::{Session, collect_texts, literal};

/// What `error(…)` is replaced by: `TRY` takes no volatile function, which that is, but fails on the cast just so.
const ERROR: &str = "SELECT CAST(CAST('x' || pintail_argument AS INTEGER) AS \"NULL\")";

/// The forms of an expression, as SQL.
#[derive(Debug)]
pub struct Forms {
    /// The expression. What it calls is what was written, but for `error`.
    pub plain: String,
    /// The expression with casts that give NULL where they would fail: the same where none fails.
    pub loose: String,
    /// Whether it may fail, computed by vectors as far as can be.
    pub narrow: String,
    /// Whether it fails.
    pub confirm: String,
    /// Whether anything in it can fail.
    pub can_fail: bool,
}

/// Rewrites expressions by means of a session.
pub struct Rewriter<'s> {
    session: &'s Session,
    /// The expression that always fails, with a column where the text stands.
    error: Value,
}

impl<'s> Rewriter<'s> {
    /// Prepares for a session; `None` if DuckDB does not write its tree as expected.
    pub fn new(session: &'s Session) -> Option<Self> {
        let tree = collect_texts(session.connection(), &format!("SELECT json_serialize_sql({})::VARCHAR", literal(ERROR))).ok()?;
        let mut tree: Value = serde_json::from_str(tree.first()?.first()?).ok()?;
        Some(Self { session, error: tree["statements"][0]["node"]["select_list"][0].take() })
    }

    /// Returns the forms of an expression; `None` if DuckDB cannot write it as SQL.
    pub fn forms(&self, expression: &Value) -> Option<Forms> {
        let mut plain = expression.clone();
        self.replace_errors(&mut plain);
        plain["alias"] = json!("");
        let mut casts = Vec::new();
        let loose = loosen(&plain, &mut casts);
        let mut checks = self.checks(&casts)?;
        let (plain_sql, loose_sql) = (self.sql(&plain)?, self.sql(&loose)?);
        if can_fail(&loose) || checks.is_empty() {
            checks.push(fails(&loose_sql));
        }
        Some(Forms {
            narrow: format!("({})", checks.join(" OR ")),
            confirm: match self.surely_fails(&plain)? {
                Some(surely) => format!("(CASE WHEN coalesce(TRY({surely}), false) THEN true ELSE {} END)", fails(&plain_sql)),
                None => fails(&plain_sql),
            },
            can_fail: can_fail(&plain),
            plain: plain_sql,
            loose: loose_sql,
        })
    }

    /// Returns the conditions that hold where one of these fails.
    fn checks(&self, fallible: &[Fallible]) -> Option<Vec<String>> {
        fallible.iter().map(|one| self.check(one)).collect()
    }

    fn check(&self, fallible: &Fallible) -> Option<String> {
        let (check, is_safe) = match fallible {
            Fallible::Cast { cast, operands } => {
                let given: Vec<String> =
                    operands.iter().map(|operand| Some(format!("({}) IS NOT NULL", self.sql(operand)?))).collect::<Option<_>>()?;
                let check = format!("({}) IS NULL AND {}", self.sql(cast)?, given.join(" AND "));
                (check, operands.iter().all(|operand| !can_fail(operand)))
            }
            Fallible::Case { branches, otherwise } => {
                let mut check = "CASE".to_owned();
                for Branch { when, of_when, of_then } in branches {
                    if !of_when.is_empty() {
                        check += &format!(" WHEN {} THEN true", self.any(of_when)?);
                    }
                    check += &format!(" WHEN ({})::BOOLEAN THEN {}", self.sql(when)?, self.any(of_then)?);
                }
                check += &format!(" ELSE {} END", self.any(otherwise)?);
                (check, branches.iter().all(|branch| !can_fail(&branch.when)))
            }
        };
        Some(if is_safe { format!("({check})") } else { format!("coalesce(TRY({check}), true)") })
    }

    /// Returns a condition that holds only where an expression fails, and does not fail itself for that: to catch an error takes twenty
    /// microseconds. It looks at casts of texts whose value is that of the expression itself: others DuckDB may find it need not compute, and
    /// casts of other types give NULL for more than failures.
    #[expect(clippy::option_option, reason = "no condition is no fault")]
    fn surely_fails(&self, expression: &Value) -> Option<Option<String>> {
        match expression["class"].as_str() {
            Some("CAST") if expression["try_cast"] == json!(false) => {
                let cast = loosen(expression, &mut Vec::new());
                let (sql, operand) = (self.sql(&cast)?, self.sql(&cast["child"])?);
                let here = format!("(typeof({operand}) = 'VARCHAR' AND ({operand}) IS NOT NULL AND ({sql}) IS NULL)");
                let within = self.surely_fails(&expression["child"])?;
                Some(Some(within.map_or(here.clone(), |within| format!("({here} OR {within})"))))
            }
            Some("CASE") => {
                let (mut check, mut any) = ("(CASE".to_owned(), false);
                for branch in expression["case_checks"].as_array()? {
                    let mut of_when = Vec::new();
                    let when = loosen(&branch["when_expr"], &mut of_when);
                    if !of_when.is_empty() {
                        check += &format!(" WHEN {} THEN false", self.any(&of_when)?);
                    }
                    let then = self.surely_fails(&branch["then_expr"])?;
                    any |= then.is_some();
                    check += &format!(" WHEN ({})::BOOLEAN THEN {}", self.sql(&when)?, then.as_deref().unwrap_or("false"));
                }
                let otherwise = self.surely_fails(&expression["else_expr"])?;
                any |= otherwise.is_some();
                check += &format!(" ELSE {} END)", otherwise.as_deref().unwrap_or("false"));
                Some(any.then_some(check))
            }
            _ => Some(None),
        }
    }

    fn any(&self, fallible: &[Fallible]) -> Option<String> {
        let checks = self.checks(fallible)?;
        Some(if checks.is_empty() { "false".to_owned() } else { format!("({})", checks.join(" OR ")) })
    }

    /// Returns a `FROM` clause that reads `view` as `events`.
    pub fn from(&self, from: &Value, view: &str) -> Option<String> {
        let mut from = from.clone();
        rename(&mut from, view);
        let select = self.deserialize(
            json!([{ "class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "", "literal": { "kind": "INTEGER", "text": "1" } }]),
            from,
        )?;
        select.find("FROM").map(|start| select[start..].to_owned())
    }

    fn sql(&self, expression: &Value) -> Option<String> {
        let select = self.deserialize(json!([expression]), json!({ "type": "EMPTY", "alias": "", "sample": null }))?;
        select.strip_prefix("SELECT ").map(str::to_owned)
    }

    fn deserialize(&self, list: Value, from: Value) -> Option<String> {
        let node = json!({
            "type": "SELECT_NODE", "modifiers": [], "cte_map": { "map": [] }, "select_list": list, "from_table": from,
            "where_clause": null, "group_expressions": [], "group_sets": [], "aggregate_handling": "STANDARD_HANDLING", "having": null,
            "sample": null, "qualify": null,
        });
        let tree = json!({ "error": false, "statements": [{ "node": node, "named_param_map": [] }] }).to_string();
        let written = collect_texts(self.session.connection(), &format!("SELECT json_deserialize_sql({}::JSON)", literal(&tree))).ok()?;
        written.into_iter().flatten().next()
    }

    fn replace_errors(&self, value: &mut Value) {
        match value {
            Value::Object(_) if value["class"] == "FUNCTION" && value["function_name"] == "error" => {
                let argument = value["arguments"][0]["expression"].take();
                let alias = value["alias"].take();
                *value = self.error.clone();
                put_argument(value, &argument);
                value["alias"] = alias;
            }
            Value::Object(members) => members.values_mut().for_each(|member| self.replace_errors(member)),
            Value::Array(elements) => elements.iter_mut().for_each(|element| self.replace_errors(element)),
            _ => {}
        }
    }
}

/// Returns the condition that holds where an expression fails. It asks for the hash, which each value has: whether a value is NULL, DuckDB may
/// know of its type and not evaluate it.
fn fails(expression: &str) -> String {
    format!("(TRY(hash({expression})) IS NULL)")
}

fn put_argument(value: &mut Value, argument: &Value) {
    match value {
        Value::Object(_) if value["column_names"] == json!(["pintail_argument"]) => *value = argument.clone(),
        Value::Object(members) => members.values_mut().for_each(|member| put_argument(member, argument)),
        Value::Array(elements) => elements.iter_mut().for_each(|element| put_argument(element, argument)),
        _ => {}
    }
}

/// Returns whether a table of a `FROM` is `events`.
pub fn is_events(table: &Value) -> bool {
    table["table_name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("events"))
}

fn rename(from: &mut Value, view: &str) {
    if from["type"] == "JOIN" {
        rename(&mut from["left"], view);
        rename(&mut from["right"], view);
    } else if from["type"] == "BASE_TABLE" && is_events(from) {
        if from["alias"] == "" {
            from["alias"] = from["table_name"].clone();
        }
        from["table_name"] = json!(view);
        from["schema_name"] = json!("");
        from["catalog_name"] = json!("");
        from["qualified_name"] = json!({ "path": [view] });
    }
}

/// Returns whether a class of expression stands anywhere in one.
pub fn mentions(value: &Value, class: &str) -> bool {
    match value {
        Value::Object(members) => value["class"] == class || members.values().any(|member| mentions(member, class)),
        Value::Array(elements) => elements.iter().any(|element| mentions(element, class)),
        _ => false,
    }
}

/// A part of an expression that fails for some records, in its form that does not.
enum Fallible {
    /// A cast, or a function that is one, which gives NULL where it would fail, and what it gives NULL for anyhow.
    Cast { cast: Value, operands: Vec<Value> },
    /// A `CASE`: of its parts only some are evaluated.
    Case { branches: Vec<Branch>, otherwise: Vec<Fallible> },
}

/// A branch of a `CASE`, and what can fail in its parts.
struct Branch {
    when: Value,
    of_when: Vec<Fallible>,
    of_then: Vec<Fallible>,
}

/// Returns the expression with casts that do not fail, in all that is evaluated whatever the record holds.
fn loosen(expression: &Value, casts: &mut Vec<Fallible>) -> Value {
    let mut loose = expression.clone();
    let is_lazy = matches!(expression["type"].as_str(), Some("OPERATOR_COALESCE" | "OPERATOR_TRY"));
    match expression["class"].as_str() {
        Some("CAST") => {
            loose["child"] = loosen(&expression["child"], casts);
            if expression["try_cast"] == json!(false) {
                loose["try_cast"] = json!(true);
                casts.push(Fallible::Cast { cast: loose.clone(), operands: vec![loose["child"].clone()] });
            }
        }
        Some("FUNCTION") => {
            let count = expression["arguments"].as_array().map_or(0, Vec::len);
            for argument in 0..count {
                loose["arguments"][argument]["expression"] = loosen(&expression["arguments"][argument]["expression"], casts);
            }
            if expression["function_name"] == "strptime" && count == 2 {
                loose["function_name"] = json!("try_strptime");
                loose["qualified_name"] = json!({ "path": ["try_strptime"] });
                let operands = (0..2).map(|argument| loose["arguments"][argument]["expression"].clone()).collect();
                casts.push(Fallible::Cast { cast: loose.clone(), operands });
            }
        }
        Some("CASE") => {
            let mut branches = Vec::new();
            for check in 0..expression["case_checks"].as_array().map_or(0, Vec::len) {
                let (mut of_when, mut of_then) = (Vec::new(), Vec::new());
                let when = loosen(&expression["case_checks"][check]["when_expr"], &mut of_when);
                let then = loosen(&expression["case_checks"][check]["then_expr"], &mut of_then);
                loose["case_checks"][check]["when_expr"] = when.clone();
                loose["case_checks"][check]["then_expr"] = then;
                branches.push(Branch { when, of_when, of_then });
            }
            let mut otherwise = Vec::new();
            loose["else_expr"] = loosen(&expression["else_expr"], &mut otherwise);
            let in_any = |branch: &Branch| !branch.of_when.is_empty() || !branch.of_then.is_empty();
            if branches.iter().any(in_any) || !otherwise.is_empty() {
                casts.push(Fallible::Case { branches, otherwise });
            }
        }
        Some("COMPARISON") => ["left", "right"].iter().for_each(|side| loose[side] = loosen(&expression[side], casts)),
        Some("BETWEEN") => ["input", "lower", "upper"].iter().for_each(|part| loose[part] = loosen(&expression[part], casts)),
        Some("OPERATOR") if !is_lazy => {
            for child in 0..expression["children"].as_array().map_or(0, Vec::len) {
                loose["children"][child] = loosen(&expression["children"][child], casts);
            }
        }
        _ => {}
    }
    loose
}

/// Returns whether anything in an expression can fail.
fn can_fail(expression: &Value) -> bool {
    match expression["class"].as_str() {
        Some("COLUMN_REF" | "CONSTANT") => false,
        Some("CAST") => expression["try_cast"] != json!(true) || can_fail(&expression["child"]),
        Some("FUNCTION") if expression["function_name"] == "try_strptime" => {
            expression["arguments"].as_array().is_none_or(|arguments| arguments.iter().any(|argument| can_fail(&argument["expression"])))
        }
        _ => true,
    }
}

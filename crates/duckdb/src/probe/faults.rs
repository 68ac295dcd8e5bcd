//! Faults: which expressions can fail, by what they are.
//!
//! Owns: the functions that never fail, and those that fail in a way that is known.
//! Does not own: on which records they do (see `rewrite`), arithmetic and comparisons (see `arithmetic`).

use serde_json::{Value, json};

use super::arithmetic;

/// Returns whether a type has parts: a value of it is no NULL where one of them could not be cast.
pub(super) fn is_nested(type_expression: &Value) -> bool {
    let name = type_expression["type_name"].as_str().unwrap_or_default().to_lowercase();
    matches!(name.as_str(), "list" | "array" | "struct" | "row" | "map" | "union" | "variant")
}

/// Returns whether an expression is a function that gives something for all that it takes.
fn never_fails(expression: &Value) -> bool {
    let names = [
        "len",
        "length",
        "list_value",
        "lower",
        "ltrim",
        "rtrim",
        "split",
        "str_split",
        "string_split",
        "string_to_array",
        "struct_pack",
        "trim",
        "try_strptime",
        "upper",
    ];
    expression["function_name"].as_str().is_some_and(|name| names.contains(&name))
}

/// Returns whether an expression maps the elements of a list by a lambda.
pub(super) fn maps(expression: &Value) -> bool {
    let names = ["list_transform", "array_transform", "list_apply", "array_apply", "apply"];
    let arguments = expression["arguments"].as_array().map(Vec::as_slice).unwrap_or_default();
    expression["function_name"].as_str().is_some_and(|name| names.contains(&name))
        && matches!(arguments, [_, lambda] if lambda["expression"]["class"] == "LAMBDA")
}

/// Returns what a function that [`maps`] makes of an element.
pub(super) fn body(call: &Value) -> &Value {
    &call["arguments"][1]["expression"]["expr"]
}

/// As [`body`], to be replaced.
pub(super) fn body_mut(call: &mut Value) -> &mut Value {
    &mut call["arguments"][1]["expression"]["expr"]
}

/// Returns whether an expression is a `make_date` of three numbers.
pub(super) fn makes_date(expression: &Value) -> bool {
    expression["function_name"] == "make_date" && expression["arguments"].as_array().is_some_and(|arguments| arguments.len() == 3)
}

/// Returns whether an expression is a `strptime` of one format.
pub(super) fn is_strptime(expression: &Value) -> bool {
    expression["function_name"] == "strptime" && expression["arguments"].as_array().is_some_and(|arguments| arguments.len() == 2)
}

/// Returns whether an expression is a truth value by what it is, so that DuckDB need not cast it to one.
fn is_truth(expression: &Value) -> bool {
    let is_of_null = matches!(expression["type"].as_str(), Some("OPERATOR_IS_NULL" | "OPERATOR_IS_NOT_NULL" | "OPERATOR_NOT"));
    is_of_null || matches!(expression["class"].as_str(), Some("COMPARISON" | "CONJUNCTION"))
}

/// Returns whether anything in an expression can fail.
pub(super) fn can_fail(expression: &Value) -> bool {
    let in_any = |children: &Value, is_taken: &dyn Fn(&Value) -> bool| {
        children.as_array().is_none_or(|children| children.iter().any(|child| !is_taken(child) || can_fail(child)))
    };
    match expression["class"].as_str() {
        Some("COMPARISON") if arithmetic::compares_without_failing(expression) => {
            can_fail(&expression["left"]) || can_fail(&expression["right"])
        }
        Some("CONJUNCTION") => in_any(&expression["children"], &is_truth),
        Some("OPERATOR") if expression["type"] == "OPERATOR_NOT" => in_any(&expression["children"], &is_truth),
        Some("OPERATOR") if is_truth(expression) => in_any(&expression["children"], &|_| true),
        Some("COLUMN_REF" | "CONSTANT") => false,
        Some("CAST") => expression["try_cast"] != json!(true) || can_fail(&expression["child"]),
        Some("FUNCTION") if maps(expression) => can_fail(&expression["arguments"][0]["expression"]) || can_fail(body(expression)),
        Some("FUNCTION") if never_fails(expression) || arithmetic::is_wide(expression) => {
            expression["arguments"].as_array().is_none_or(|arguments| arguments.iter().any(|argument| can_fail(&argument["expression"])))
        }
        _ => true,
    }
}

//! Values that match a JSON schema, for the arguments of tools and for structured output.

use serde_json::{Map, Value, json};

/// Objects and arrays inside each other that are followed; deeper ones are empty.
const MAX_DEPTH: u32 = 8;
/// Cities that are found in a question, as the documents' weather example needs it.
const CITIES: [&str; 12] = [
    "上海", "北京", "广州", "深圳", "杭州", "成都", "Shanghai", "Beijing", "Paris", "London",
    "Berlin", "Tokyo",
];

/// An object that has every property of `schema`, filled from the words of `question`.
pub(super) fn object(schema: &Value, question: &str) -> Value {
    let walk = Walk { root: schema, question };
    walk.properties(walk.resolved(schema), 0)
}

/// A schema on the way down.
struct Walk<'a> {
    root: &'a Value,
    question: &'a str,
}

impl<'a> Walk<'a> {
    fn properties(&self, schema: &'a Value, depth: u32) -> Value {
        let mut all = Map::new();
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, schema) in properties {
                all.insert(name.clone(), self.value(name, schema, depth + 1));
            }
        }
        Value::Object(all)
    }

    /// What a `$ref` within the document points at, as Pydantic and zod write nested types.
    fn resolved(&self, schema: &'a Value) -> &'a Value {
        let place = schema.get("$ref").and_then(Value::as_str).and_then(|it| it.strip_prefix('#'));
        place.and_then(|place| self.root.pointer(place)).unwrap_or(schema)
    }

    fn value(&self, name: &str, schema: &'a Value, depth: u32) -> Value {
        let schema = self.resolved(schema);
        if let Some(fixed) = schema.get("const").or_else(|| schema.pointer("/enum/0")) {
            return fixed.clone();
        }
        let first = ["/anyOf/0", "/oneOf/0", "/allOf/0"].iter().find_map(|at| schema.pointer(at));
        if let Some(first) = first.filter(|_| depth < MAX_DEPTH) {
            return self.value(name, first, depth + 1);
        }
        match kind(schema) {
            "object" if depth < MAX_DEPTH => self.properties(schema, depth),
            "object" => json!({}),
            "array" => match schema.get("items") {
                Some(items) if depth < MAX_DEPTH => json!([self.value(name, items, depth + 1)]),
                _ => json!([]),
            },
            "integer" => json!(number(schema, self.question)),
            "number" => json!(number(schema, self.question) as f64 + 0.5),
            "boolean" => json!(true),
            "null" => Value::Null,
            _ => json!(string(name, self.question)),
        }
    }
}

/// `type`, the first one if it is a list; what has properties is an object without saying so.
fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str).unwrap_or("string"),
        _ if schema.get("properties").is_some() => "object",
        _ => "string",
    }
}

/// The first number in the question, else 25, within the schema's bounds.
fn number(schema: &Value, question: &str) -> i64 {
    let digits = question
        .split(|one: char| !one.is_ascii_digit())
        .find(|run| !run.is_empty())
        .and_then(|run| run.parse().ok());
    let least = schema.get("minimum").and_then(Value::as_i64).unwrap_or(i64::MIN);
    let most = schema.get("maximum").and_then(Value::as_i64).unwrap_or(i64::MAX);
    digits.unwrap_or(25).max(least).min(most)
}

fn string(name: &str, question: &str) -> String {
    let name = name.to_ascii_lowercase();
    if ["city", "location", "place"].iter().any(|part| name.contains(part)) {
        let city = CITIES.iter().find(|city| question.contains(**city));
        return (*city.unwrap_or(&CITIES[0])).to_owned();
    }
    if name.contains("email") {
        return "tom@example.com".to_owned();
    }
    if name.contains("name") {
        return "Tom".to_owned();
    }
    question.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_types_that_the_schema_asks_for() {
        let schema = json!({"type":"object","properties":{
            "city":{"type":"string"},
            "unit":{"type":"string","enum":["celsius","kelvin"]},
            "days":{"type":"integer","minimum":1,"maximum":7},
            "share":{"type":["number","null"]},
            "alert":{"type":"boolean"},
            "tags":{"type":"array","items":{"type":"string"}},
            "where":{"properties":{"street":{"anyOf":[{"type":"null"},{"type":"string"}]}}},
            "topic":{},
        }});
        let expected = json!({"city":"北京","unit":"celsius","days":7,"share":10.5,"alert":true,
            "tags":["北京 10 天"],"where":{"street":null},"topic":"北京 10 天"});
        assert_eq!(object(&schema, "北京 10 天"), expected);
    }

    #[test]
    fn references_are_followed_and_a_circle_ends() {
        let schema = json!({"$ref":"#/$defs/person","$defs":{"person":{"type":"object","properties":{
            "name":{"type":"string"},"friend":{"anyOf":[{"$ref":"#/$defs/person"},{"type":"null"}]},
            "age":{"$ref":"#/$defs/age"},"gone":{"$ref":"#/$defs/none"}}},"age":{"type":"integer"}}});
        let made = object(&schema, "7 days");
        assert_eq!(
            (&made["name"], &made["age"], &made["gone"]),
            (&json!("Tom"), &json!(7), &json!("7 days"))
        );
        assert_eq!(made["friend"]["friend"]["name"], "Tom");
        assert!(made.to_string().matches("friend").count() <= MAX_DEPTH as usize);
    }

    #[test]
    fn what_is_no_schema_gives_an_empty_object() {
        for schema in [json!(null), json!([]), json!({}), json!({"properties":7})] {
            assert_eq!(object(&schema, "?"), json!({}));
        }
    }

    #[test]
    fn schemas_are_followed_to_a_bounded_depth() {
        let mut schema = json!({"type":"string"});
        for _ in 0..40 {
            schema = json!({"type":"object","properties":{"deeper":schema}});
        }
        let text = object(&schema, "?").to_string();
        assert_eq!(text.matches("deeper").count(), MAX_DEPTH as usize);
    }
}

//! Intrinsic functions of CloudFormation: evaluates values with the defaults of the template's parameters.
//!
//! Only the table and the WebSocket API can be referred to by their logical ids, because nothing else that the local
//! server evaluates depends on another resource. A function or a reference that is not supported makes the result
//! `None`.

use serde_json::Value;

const REGION: &str = "us-east-1";
const ACCOUNT: &str = "000000000000";
/// The id of the WebSocket API.
const API_ID: &str = "local";
/// The label of the table's stream. A real one is the time when the stream was enabled.
const STREAM_LABEL: &str = "2026-01-01T00:00:00.000";

/// The one key of an object that calls an intrinsic function, and its argument.
pub(super) fn intrinsic(value: &Value) -> Option<(&str, &Value)> {
    let fields = value.as_object().filter(|fields| fields.len() == 1)?;
    let (function, argument) = fields.iter().next()?;
    Some((function.as_str(), argument))
}

/// Text, a number or a flag as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Evaluates values of a template.
#[derive(Clone, Copy)]
pub(super) struct Evaluator<'a> {
    root: &'a Value,
}

impl<'a> Evaluator<'a> {
    /// `root` is the whole template, with functions in their long form.
    pub fn new(root: &'a Value) -> Self {
        Self { root }
    }

    /// A value that is text, a number or a flag.
    pub fn text(self, value: &Value) -> Option<String> {
        scalar(&self.evaluate(value)?)
    }

    /// A list of texts. A single text is a list, too. `None` if the value is absent.
    pub fn texts(self, value: &Value) -> Option<Vec<String>> {
        match self.evaluate(value)? {
            Value::Array(items) => items.iter().map(scalar).collect(),
            item => Some(vec![scalar(&item)?]),
        }
    }

    /// The entries of a list that are not removed by a condition. They are not evaluated themselves. A
    /// single value is a list with one entry.
    pub fn entries(self, value: &Value) -> Option<Vec<&Value>> {
        let value = self.select_branch(value)?;
        let entries: &[Value] = match value {
            Value::Null => &[],
            Value::Array(entries) => entries.as_slice(),
            entry => std::slice::from_ref(entry),
        };
        let entries = entries.iter().map(|entry| self.select_branch(entry));
        let mut entries: Vec<_> = entries.collect::<Option<_>>()?;
        entries.retain(|entry| entry["Ref"] != "AWS::NoValue");
        Some(entries)
    }

    /// The selected branch of an `If`; any other value unchanged.
    pub fn select_branch(self, value: &Value) -> Option<&Value> {
        match intrinsic(value) {
            Some(("Fn::If", choice)) => self.select_branch(self.branch(choice)?),
            _ => Some(value),
        }
    }

    fn branch(self, choice: &Value) -> Option<&Value> {
        let is_true = self.condition(choice[0].as_str()?)?;
        let index: usize = if is_true { 1 } else { 2 };
        Some(&choice[index])
    }

    /// Whether a named condition is true.
    pub fn condition(self, name: &str) -> Option<bool> {
        self.is_true(&self.root["Conditions"][name])
    }

    /// The name of the table with this logical id: `TableName`, by default the id itself.
    pub fn table_name(self, id: &str) -> Option<String> {
        match &self.root["Resources"][id]["Properties"]["TableName"] {
            Value::Null => Some(id.to_owned()),
            name => self.text(name),
        }
    }

    /// The ARN of the table with this logical id.
    pub fn table_arn(self, id: &str) -> Option<String> {
        let name = self.table_name(id)?;
        Some(format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}"))
    }

    /// The start of the ARNs of everything that belongs to the WebSocket API, up to the stage.
    pub fn api_arn_prefix() -> String {
        format!("arn:aws:execute-api:{REGION}:{ACCOUNT}:{API_ID}/")
    }

    fn is_true(self, condition: &Value) -> Option<bool> {
        let (function, arguments) = intrinsic(condition)?;
        let mut operands = arguments.as_array().into_iter().flatten();
        match function {
            "Condition" => self.condition(arguments.as_str()?),
            "Fn::Equals" => Some(self.text(&arguments[0])? == self.text(&arguments[1])?),
            "Fn::Not" => Some(!self.is_true(&arguments[0])?),
            "Fn::Or" => operands.try_fold(false, |any, operand| Some(any | self.is_true(operand)?)),
            "Fn::And" => operands.try_fold(true, |all, operand| Some(all & self.is_true(operand)?)),
            _ => None,
        }
    }

    /// A text, number, flag or list of them. `null` is `AWS::NoValue`; a list does not contain it.
    fn evaluate(self, value: &Value) -> Option<Value> {
        match value {
            Value::Object(_) => {
                let (function, argument) = intrinsic(value)?;
                self.call(function, argument)
            }
            Value::Array(items) => {
                let items = items.iter().map(|item| self.evaluate(item));
                let mut items: Vec<_> = items.collect::<Option<_>>()?;
                items.retain(|item| !item.is_null());
                Some(Value::Array(items))
            }
            value => Some(value.clone()),
        }
    }

    fn call(self, function: &str, argument: &Value) -> Option<Value> {
        match function {
            "Ref" => self.reference(argument.as_str()?),
            "Fn::GetAtt" => {
                let (resource, attribute) = match argument.as_str() {
                    Some(text) => text.split_once('.')?,
                    None => (argument[0].as_str()?, argument[1].as_str()?),
                };
                self.attribute(resource, attribute).map(Value::from)
            }
            "Fn::If" => self.evaluate(self.branch(argument)?),
            "Fn::Sub" => {
                let text = match argument.as_str() {
                    Some(text) => self.substitute(text, &Value::Null),
                    None => self.substitute(argument[0].as_str()?, &argument[1]),
                };
                text.map(Value::from)
            }
            "Fn::Join" => {
                let items = self.texts(&argument[1])?;
                Some(items.join(argument[0].as_str()?).into())
            }
            "Fn::Split" => {
                let text = self.text(&argument[1])?;
                Some(text.split(argument[0].as_str()?).collect())
            }
            "Fn::Select" => {
                let index: usize = self.text(&argument[0])?.parse().ok()?;
                let mut items = self.texts(&argument[1])?.into_iter();
                items.nth(index).map(Value::from)
            }
            _ => None,
        }
    }

    /// The value of `Ref`: a pseudo parameter, the table's name, the id of the WebSocket API, or the default of a
    /// parameter.
    fn reference(self, name: &str) -> Option<Value> {
        let text = match name {
            "AWS::NoValue" => return Some(Value::Null),
            "AWS::AccountId" => ACCOUNT,
            "AWS::Partition" => "aws",
            "AWS::Region" => REGION,
            "AWS::StackName" => "local",
            "AWS::URLSuffix" => "amazonaws.com",
            _ if self.is_table(name) => return self.table_name(name).map(Value::from),
            _ if self.has_type(name, "AWS::ApiGatewayV2::Api") => API_ID,
            _ => return self.parameter(name),
        };
        Some(text.into())
    }

    fn parameter(self, name: &str) -> Option<Value> {
        let parameter = &self.root["Parameters"][name];
        let default = scalar(parameter.get("Default")?)?;
        let parameter_type = parameter["Type"].as_str().unwrap_or_default();
        if parameter_type == "CommaDelimitedList" || parameter_type.starts_with("List<") {
            Some(default.split(',').map(str::trim).collect())
        } else {
            Some(default.into())
        }
    }

    fn attribute(self, resource: &str, attribute: &str) -> Option<String> {
        let table_arn = self
            .is_table(resource)
            .then(|| self.table_arn(resource))
            .flatten()?;
        match attribute {
            "Arn" => Some(table_arn),
            "StreamArn" => Some(format!("{table_arn}/stream/{STREAM_LABEL}")),
            _ => None,
        }
    }

    fn is_table(self, resource: &str) -> bool {
        self.has_type(resource, "AWS::DynamoDB::Table")
    }

    fn has_type(self, resource: &str, resource_type: &str) -> bool {
        self.root["Resources"][resource]["Type"] == resource_type
    }

    /// The text of a `Sub`. `variables` are those of its list form.
    fn substitute(self, text: &str, variables: &Value) -> Option<String> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}')?;
            result.push_str(before);
            result.push_str(&match (variables.get(name), name.split_once('.')) {
                (Some(value), _) => self.text(value)?,
                (None, Some((resource, attribute))) => self.attribute(resource, attribute)?,
                (None, None) => scalar(&self.reference(name)?)?,
            });
            rest = after;
        }
        result.push_str(rest);
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template() -> Value {
        json!({
            "Parameters": {
                "Name": {"Type": "String", "Default": "ann"},
                "Empty": {"Type": "String", "Default": ""},
                "Number": {"Type": "Number", "Default": 7},
                "List": {"Type": "CommaDelimitedList", "Default": "a, b"},
                "EmptyList": {"Type": "CommaDelimitedList", "Default": ""},
                "Required": {"Type": "String"},
            },
            "Conditions": {
                "HasName": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Name"}, ""]}]},
                "HasEmpty": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Empty"}, ""]}]},
                "HasList": {"Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": "EmptyList"}]}, ""]}]},
                "Any": {"Fn::Or": [{"Condition": "HasEmpty"}, {"Condition": "HasName"}]},
                "All": {"Fn::And": [{"Condition": "HasEmpty"}, {"Condition": "HasName"}]},
            },
            "Resources": {
                "Things": {"Type": "AWS::DynamoDB::Table"},
                "Named": {
                    "Type": "AWS::DynamoDB::Table",
                    "Properties": {"TableName": {"Fn::Sub": "${AWS::StackName}-${Name}"}},
                },
                "Topic": {"Type": "AWS::SNS::Topic"},
                "Live": {"Type": "AWS::ApiGatewayV2::Api"},
            },
        })
    }

    #[test]
    fn functions_of_texts_are_evaluated_with_the_defaults_of_parameters() {
        let root = template();
        for (value, expected) in [
            (json!("x"), "x"),
            (json!(true), "true"),
            (json!({"Ref": "Name"}), "ann"),
            (json!({"Ref": "Number"}), "7"),
            (json!({"Ref": "AWS::Region"}), "us-east-1"),
            (json!({"Ref": "Things"}), "Things"),
            (json!({"Ref": "Named"}), "local-ann"),
            (json!({"Fn::If": ["HasName", {"Ref": "Name"}, "b"]}), "ann"),
            (
                json!({"Fn::If": ["All", "a", {"Fn::If": ["Any", "b", "c"]}]}),
                "b",
            ),
            (json!({"Fn::Sub": "a-${Name}-${Number}"}), "a-ann-7"),
            (
                json!({"Fn::Sub": ["${x}/${Name}", {"x": {"Fn::If": ["HasList", "a", "b"]}}]}),
                "b/ann",
            ),
            (json!({"Fn::Join": ["+", [{"Ref": "Name"}, "x"]]}), "ann+x"),
            (json!({"Fn::Join": [",", {"Ref": "List"}]}), "a,b"),
            (json!({"Fn::Select": [1, {"Ref": "List"}]}), "b"),
            (
                json!({"Fn::Select": ["0", {"Fn::Split": ["/", "p/q"]}]}),
                "p",
            ),
            (json!({"Fn::Select": [0, {"Ref": "EmptyList"}]}), ""),
            (
                json!({"Fn::GetAtt": ["Things", "Arn"]}),
                "arn:aws:dynamodb:us-east-1:000000000000:table/Things",
            ),
            (
                json!({"Fn::Sub": "${Named.Arn}/index/i"}),
                "arn:aws:dynamodb:us-east-1:000000000000:table/local-ann/index/i",
            ),
            (
                json!({"Fn::GetAtt": "Things.StreamArn"}),
                "arn:aws:dynamodb:us-east-1:000000000000:table/Things/stream/2026-01-01T00:00:00.000",
            ),
            (json!({"Fn::Sub": "${Live}/live"}), "local/live"),
        ] {
            let text = Evaluator::new(&root).text(&value);
            assert_eq!(text.as_deref(), Some(expected), "{value}");
        }
    }

    #[test]
    fn a_list_leaves_out_what_a_condition_removes() {
        let root = template();
        let evaluator = Evaluator::new(&root);
        let removed = json!({"Fn::If": ["HasEmpty", "x", {"Ref": "AWS::NoValue"}]});
        let list = json!(["a", removed, {"Ref": "Name"}]);
        assert_eq!(evaluator.texts(&list).unwrap(), ["a", "ann"]);
        assert_eq!(
            evaluator.texts(&json!({"Ref": "List"})).unwrap(),
            ["a", "b"]
        );
        assert_eq!(evaluator.texts(&json!("a")).unwrap(), ["a"]);
        assert_eq!(evaluator.texts(&Value::Null), None);

        let unknown = json!({"Fn::ImportValue": "x"});
        let entries = json!({"Fn::If": ["HasName", [removed, unknown], []]});
        assert_eq!(evaluator.entries(&entries).unwrap(), [&unknown]);
        assert_eq!(evaluator.entries(&unknown).unwrap(), [&unknown]);
        assert!(evaluator.entries(&Value::Null).unwrap().is_empty());
        assert!(evaluator.entries(&removed).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_supported_has_no_value() {
        let root = template();
        for value in [
            json!({"Ref": "Required"}),
            json!({"Ref": "Topic"}),
            json!({"Ref": "Unknown"}),
            json!({"Fn::GetAtt": "Topic.Arn"}),
            json!({"Fn::GetAtt": "Things.Unknown"}),
            json!({"Fn::ImportValue": "x"}),
            json!({"Fn::If": ["Unknown", "a", "b"]}),
            json!({"Fn::Sub": "${List}"}),
            json!({"Fn::Sub": "${Unknown}"}),
            json!({"Fn::Select": [9, {"Ref": "List"}]}),
            json!({"Fn::Join": [",", {"Ref": "Topic"}]}),
            json!({"a": "b", "c": "d"}),
            json!(["a"]),
            json!(null),
        ] {
            assert_eq!(Evaluator::new(&root).text(&value), None, "{value}");
        }
    }
}

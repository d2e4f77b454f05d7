//! Reads what is needed of the SAM template: functions, routes, table and CORS.
//!
//! This is not a CloudFormation engine: it evaluates parameters' defaults, conditions, `Ref`, `Sub` and
//! `If`, and says so clearly where a template needs more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

use crate::Error;

/// What the stack takes from the template.
#[derive(Debug)]
pub struct Template {
    /// The functions.
    pub functions: Vec<Function>,
    /// The routes of the HTTP API.
    pub routes: Vec<Route>,
    /// The one table.
    pub table: Table,
    /// What browsers of other origins may do; `None`: nothing.
    pub cors: Option<Cors>,
}

/// A function.
#[derive(Clone, Debug)]
pub struct Function {
    /// The resource's name.
    pub name: String,
    /// The executable's name.
    pub binary: String,
    /// Megabytes.
    pub memory: u64,
    /// How long one call may take.
    pub timeout: Duration,
    /// Environment variables.
    pub environment: BTreeMap<String, Setting>,
    /// What its role may do.
    pub grants: BTreeSet<Grant>,
}

/// One action on DynamoDB that a role allows, on the table or one of its indexes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// `dynamodb:Query`, …
    pub action: String,
    /// The index, or the table itself.
    pub index: Option<String>,
}

/// The value of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Known from the template.
    Value(String),
    /// The table's name.
    TableName,
    /// Looked up at deployment (`{{resolve:…}}`): unknown here.
    Dynamic,
}

/// One route of the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `GET`, …, or `ANY`.
    pub method: String,
    /// With parameters in braces: `/chats/{chatId}/accept`.
    pub path: String,
    /// The executable's name.
    pub binary: String,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    /// `TableName`, or else the resource's name.
    pub name: String,
    /// Attributes of keys, with their types.
    pub attributes: Vec<(String, String)>,
    /// Partition key and sort key, with their kinds (`HASH`, `RANGE`).
    pub keys: Vec<(String, String)>,
    /// Indexes with their keys; each projects all attributes.
    pub indexes: Vec<(String, Vec<(String, String)>)>,
    /// Where an item says when it expires.
    pub ttl: Option<String>,
}

/// What browsers of other origins may do.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Origins, or `*`.
    pub allow_origins: Vec<String>,
    /// Methods, or `*`.
    pub allow_methods: Vec<String>,
    /// Request headers, or `*`.
    pub allow_headers: Vec<String>,
    /// Response headers that a page may read.
    pub expose_headers: Vec<String>,
    /// Whether cookies may be sent along.
    pub allow_credentials: bool,
    /// Seconds that a browser may remember this.
    pub max_age: Option<u64>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When the file cannot be read, is not YAML, or needs more than is evaluated here.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::new(format!("cannot read {}: {error}", path.display())))?;
        Self::parse(&text).map_err(|error| Error::new(format!("{}: {error}", path.display())))
    }

    /// Reads a template's text.
    ///
    /// # Errors
    /// As [`Template::read`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let documents =
            Yaml::load_from_str(text).map_err(|error| Error::new(format!("not YAML: {error}")))?;
        let root = documents.first().map(to_json).unwrap_or_default();
        let reader = Reader { root: &root };
        let table = reader.table()?;
        let (mut functions, mut routes) = (Vec::new(), Vec::new());
        for (name, function) in reader.resources("AWS::Serverless::Function") {
            let function = reader.function(name, function, &table.1)?;
            routes.extend(reader.routes(name, &function.binary)?);
            functions.push(function);
        }
        if routes.is_empty() {
            return Err(Error::new("no function has an event of type HttpApi"));
        }
        Ok(Self {
            functions,
            routes,
            table: table.0,
            cors: reader.cors()?,
        })
    }
}

struct Reader<'a> {
    root: &'a Value,
}

impl<'a> Reader<'a> {
    fn resources(&self, kind: &str) -> Vec<(&'a String, &'a Value)> {
        let resources = self.root["Resources"].as_object().into_iter().flatten();
        resources
            .filter(|(_, resource)| resource["Type"] == kind)
            .collect()
    }

    /// The table, and the name of its resource.
    fn table(&self) -> Result<(Table, String), Error> {
        let tables = self.resources("AWS::DynamoDB::Table");
        let [(resource, table)] = tables[..] else {
            return Err(Error::new(format!(
                "expected one DynamoDB table, found {}",
                tables.len()
            )));
        };
        let properties = &table["Properties"];
        let pairs = |of: &Value, list: &str, kind: &str| -> Result<Vec<(String, String)>, Error> {
            let pair = |it: &Value| {
                let name = it["AttributeName"].as_str()?;
                Some((name.to_owned(), it[kind].as_str()?.to_owned()))
            };
            let pairs = of[list].as_array().into_iter().flatten().map(pair);
            let pairs: Option<Vec<_>> = pairs.collect();
            let pairs = pairs.filter(|pairs| !pairs.is_empty());
            pairs.ok_or_else(|| unclear(resource, list))
        };
        let index = |index: &Value| {
            let name = index["IndexName"].as_str();
            let name = name.ok_or_else(|| unclear(resource, "IndexName"))?;
            if index["Projection"]["ProjectionType"] != "ALL" {
                return Err(Error::new(format!(
                    "index {name} of {resource}: expected ProjectionType ALL, which is all that is \
                     made here"
                )));
            }
            Ok((name.to_owned(), pairs(index, "KeySchema", "KeyType")?))
        };
        let indexes = properties["GlobalSecondaryIndexes"].as_array();
        let ttl = &properties["TimeToLiveSpecification"];
        let table = Table {
            name: match &properties["TableName"] {
                Value::Null => resource.clone(),
                name => self
                    .text(name)
                    .ok_or_else(|| unclear(resource, "TableName"))?,
            },
            attributes: pairs(properties, "AttributeDefinitions", "AttributeType")?,
            keys: pairs(properties, "KeySchema", "KeyType")?,
            indexes: indexes
                .into_iter()
                .flatten()
                .map(index)
                .collect::<Result<_, _>>()?,
            ttl: match &ttl["Enabled"] {
                Value::Bool(true) => Some(
                    ttl["AttributeName"]
                        .as_str()
                        .map(str::to_owned)
                        .ok_or_else(|| unclear(resource, "TimeToLiveSpecification"))?,
                ),
                Value::Bool(false) | Value::Null => None,
                _ => return Err(unclear(resource, "TimeToLiveSpecification")),
            },
        };
        Ok((table, resource.clone()))
    }

    fn function(&self, name: &str, function: &Value, table: &str) -> Result<Function, Error> {
        let globals = &self.root["Globals"]["Function"];
        let own = &function["Properties"];
        let number = |property: &str, default: u64| match (&own[property], &globals[property]) {
            (Value::Null, Value::Null) => Ok(default),
            (Value::Null, value) | (value, _) => {
                let number = self.text(value).and_then(|number| number.parse().ok());
                number.ok_or_else(|| unclear(name, property))
            }
        };
        let binary = function["Metadata"]["BuildProperties"]["Binary"].as_str();
        let mut environment = BTreeMap::new();
        for variables in [globals, own].map(|it| it["Environment"]["Variables"].as_object()) {
            for (variable, value) in variables.into_iter().flatten() {
                let setting = self
                    .setting(value, table)
                    .ok_or_else(|| unclear(name, variable))?;
                environment.insert(variable.clone(), setting);
            }
        }
        Ok(Function {
            name: name.to_owned(),
            binary: binary
                .ok_or_else(|| unclear(name, "BuildProperties.Binary"))?
                .to_owned(),
            memory: number("MemorySize", 128)?,
            timeout: Duration::from_secs(number("Timeout", 3)?),
            environment,
            grants: grants(name, own, table)?,
        })
    }

    fn routes(&self, function: &str, binary: &str) -> Result<Vec<Route>, Error> {
        let events = self.root["Resources"][function]["Properties"]["Events"].as_object();
        let events = events
            .into_iter()
            .flatten()
            .filter(|(_, event)| event["Type"] == "HttpApi");
        events
            .map(|(event, properties)| {
                let text = |property: &str| {
                    let value = properties["Properties"][property].as_str();
                    value.ok_or_else(|| unclear(function, format_args!("{event}.{property}")))
                };
                Ok(Route {
                    method: text("Method")?.to_uppercase(),
                    path: text("Path")?.to_owned(),
                    binary: binary.to_owned(),
                })
            })
            .collect()
    }

    fn cors(&self) -> Result<Option<Cors>, Error> {
        let apis = self.resources("AWS::Serverless::HttpApi");
        let cors = apis
            .iter()
            .map(|(_, api)| &api["Properties"]["CorsConfiguration"]);
        let cors = cors.chain([&self.root["Globals"]["HttpApi"]["CorsConfiguration"]]);
        let Some(cors) = cors.into_iter().find(|cors| !cors.is_null()) else {
            return Ok(None);
        };
        if !cors.is_object() {
            return Err(unclear("the HTTP API", "CorsConfiguration"));
        }
        let list = |property: &str| -> Result<Vec<String>, Error> {
            let list = cors[property].as_array().into_iter().flatten();
            let list: Option<_> = list.map(|value| self.text(value)).collect();
            list.ok_or_else(|| unclear("CorsConfiguration", property))
        };
        Ok(Some(Cors {
            allow_origins: list("AllowOrigins")?,
            allow_methods: list("AllowMethods")?,
            allow_headers: list("AllowHeaders")?,
            expose_headers: list("ExposeHeaders")?,
            allow_credentials: cors["AllowCredentials"].as_bool().unwrap_or_default(),
            max_age: cors["MaxAge"].as_u64(),
        }))
    }

    fn setting(&self, value: &Value, table: &str) -> Option<Setting> {
        let value = self.chosen(value)?;
        if value["Ref"] == table {
            return Some(Setting::TableName);
        }
        let text = self.text(value)?;
        let dynamic = text.contains("{{resolve:");
        Some(if dynamic {
            Setting::Dynamic
        } else {
            Setting::Value(text)
        })
    }

    /// What an `If` comes to; another value as it is.
    fn chosen<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        let Some(choice) = value.get("Fn::If") else {
            return Some(value);
        };
        let branch = if self.holds(choice[0].as_str()?)? {
            1
        } else {
            2
        };
        self.chosen(&choice[branch])
    }

    /// Whether a condition holds with the parameters' defaults.
    fn holds(&self, condition: &str) -> Option<bool> {
        self.is_true(&self.root["Conditions"][condition])
    }

    fn is_true(&self, condition: &Value) -> Option<bool> {
        let (function, arguments) = condition.as_object()?.iter().next()?;
        let mut all = arguments.as_array().into_iter().flatten();
        match function.as_str() {
            "Condition" => self.holds(arguments.as_str()?),
            "Fn::Equals" => Some(self.text(&arguments[0])? == self.text(&arguments[1])?),
            "Fn::Not" => Some(!self.is_true(&arguments[0])?),
            "Fn::Or" => all.try_fold(false, |any, it| Some(any | self.is_true(it)?)),
            "Fn::And" => all.try_fold(true, |all, it| Some(all & self.is_true(it)?)),
            _ => None,
        }
    }

    /// A value as text, with parameters' defaults in their place; `None` when it needs more.
    fn text(&self, value: &Value) -> Option<String> {
        match self.chosen(value)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Object(call) if call.len() == 1 => {
                if let Some(name) = call.get("Ref").and_then(Value::as_str) {
                    return self.parameter(name);
                }
                self.substitute(call.get("Fn::Sub")?.as_str()?)
            }
            _ => None,
        }
    }

    fn parameter(&self, name: &str) -> Option<String> {
        match name {
            "AWS::Region" => Some("us-east-1".to_owned()),
            "AWS::StackName" => Some("local".to_owned()),
            "AWS::URLSuffix" => Some("amazonaws.com".to_owned()),
            _ => self.text(self.root["Parameters"][name].get("Default")?),
        }
    }

    fn substitute(&self, text: &str) -> Option<String> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}')?;
            result.push_str(before);
            result.push_str(&self.parameter(name)?);
            rest = after;
        }
        result.push_str(rest);
        Some(result)
    }
}

/// What a function's inline policies allow. A wildcard, a `Deny`, a condition or another resource than
/// the table and its indexes is more than is understood here.
fn grants(name: &str, function: &Value, table: &str) -> Result<BTreeSet<Grant>, Error> {
    let unclear = || unclear(name, "Policies");
    let list = |value: &Value| match value {
        Value::Array(them) => them.clone(),
        one => vec![one.clone()],
    };
    let mut grants = BTreeSet::new();
    for policy in function["Policies"].as_array().into_iter().flatten() {
        for statement in policy["Statement"].as_array().ok_or_else(unclear)? {
            let fields = statement.as_object().ok_or_else(unclear)?;
            let known = |field: &String| ["Effect", "Action", "Resource"].contains(&&**field);
            if statement["Effect"] != "Allow" || !fields.keys().all(known) {
                return Err(unclear());
            }
            for action in list(&statement["Action"]) {
                for resource in list(&statement["Resource"]) {
                    grants.insert(grant(&action, &resource, table).ok_or_else(unclear)?);
                }
            }
        }
    }
    Ok(grants)
}

fn grant(action: &Value, resource: &Value, table: &str) -> Option<Grant> {
    let action = action.as_str()?.to_owned();
    let index = if resource["Fn::GetAtt"] == format!("{table}.Arn") {
        None
    } else {
        let of_table = format!("${{{table}.Arn}}/index/");
        let index = resource["Fn::Sub"].as_str()?.strip_prefix(&of_table)?;
        Some(index.to_owned())
    };
    let names = [Some(&action), index.as_ref()];
    let plain = names.into_iter().flatten().all(|name| !name.contains('*'));
    plain.then_some(Grant { action, index })
}

fn unclear(resource: &str, property: impl Display) -> Error {
    Error::new(format!(
        "cannot tell {property} of {resource}: expected a plain value, or Ref, Sub and If \
         of parameters with defaults"
    ))
}

/// YAML with CloudFormation's short tags as JSON with their long form: `!Ref x` is `{"Ref": "x"}`.
fn to_json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Boolean(flag)) => Value::Bool(*flag),
        Yaml::Value(Scalar::Integer(number)) => Value::from(*number),
        Yaml::Value(Scalar::FloatingPoint(number)) => Value::from(number.into_inner()),
        Yaml::Value(Scalar::String(text)) => Value::from(text.as_ref()),
        Yaml::Sequence(items) => items.iter().map(to_json).collect(),
        Yaml::Mapping(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(key, value)| (plain(key), to_json(value)));
            Value::Object(pairs.collect())
        }
        Yaml::Tagged(tag, value) => {
            let name = match tag.suffix.as_str() {
                "Ref" => "Ref".to_owned(),
                "Condition" => "Condition".to_owned(),
                function => format!("Fn::{function}"),
            };
            Value::Object(Map::from_iter([(name, to_json(value))]))
        }
        _ => Value::Null,
    }
}

fn plain(key: &Yaml<'_>) -> String {
    match to_json(key) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The template of the workspace that this program was built in.
#[must_use]
pub fn default_path() -> PathBuf {
    workspace_root().join("template.yaml")
}

/// The folder of the workspace that this program was built in.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let this_crate = Path::new(env!("CARGO_MANIFEST_DIR"));
    this_crate.parent().unwrap_or(this_crate).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
Parameters:
  Cap: {Type: Number, Default: 7}
Conditions:
  IsSeven: !Equals [!Ref Cap, 7]
  IsOther: !Not [!Condition IsSeven]
  IsAny: !Or [!Condition IsOther, !Condition IsSeven]
Globals:
  Function:
    Timeout: 9
    Environment: {Variables: {TABLE: !Ref Things, SECRET: "{{resolve:secretsmanager:x}}"}}
Resources:
  Things:
    Type: AWS::DynamoDB::Table
    Properties:
      AttributeDefinitions: [{AttributeName: pk, AttributeType: S}]
      KeySchema: [{AttributeName: pk, KeyType: HASH}]
  Ask:
    Type: AWS::Serverless::Function
    Metadata: {BuildProperties: {Binary: ask}}
    Properties:
      MemorySize: 512
      Environment:
        Variables:
          CAP: !Ref Cap
          NAME: !Sub "a-${Cap}-b"
          CHOSEN: !If [IsOther, x, !If [IsAny, !Ref Cap, y]]
      Policies:
        - Statement:
            - {Effect: Allow, Action: dynamodb:GetItem, Resource: !GetAtt Things.Arn}
            - {Effect: Allow, Action: [dynamodb:Query], Resource: [!Sub "${Things.Arn}/index/by"]}
      Events:
        Route: {Type: HttpApi, Properties: {Method: get, Path: "/a/{b}"}}
        Other: {Type: HttpApi, Properties: {Method: any, Path: "/a/{b}"}}
"#;

    fn error_of(template: &str) -> String {
        Template::parse(template).unwrap_err().to_string()
    }

    #[test]
    fn globals_and_own_properties_are_merged_and_parameters_put_in() {
        let template = Template::parse(SMALL).unwrap();
        let function = &template.functions[0];
        assert_eq!((function.memory, function.timeout.as_secs()), (512, 9));
        let value = |text: &str| Setting::Value(text.to_owned());
        let expected = [
            ("CAP", value("7")),
            ("CHOSEN", value("7")),
            ("NAME", value("a-7-b")),
            ("SECRET", Setting::Dynamic),
            ("TABLE", Setting::TableName),
        ];
        let expected = expected.map(|(name, setting)| (name.to_owned(), setting));
        assert_eq!(function.environment, BTreeMap::from(expected));
        let grant = |action: &str, index: Option<&str>| Grant {
            action: action.to_owned(),
            index: index.map(str::to_owned),
        };
        let grants = [
            grant("dynamodb:GetItem", None),
            grant("dynamodb:Query", Some("by")),
        ];
        assert_eq!(function.grants, BTreeSet::from(grants));
        assert_eq!(template.table.name, "Things");
        let methods: BTreeSet<_> = template.routes.iter().map(|it| &*it.method).collect();
        assert_eq!(methods, BTreeSet::from(["ANY", "GET"]));
        assert!(template.cors.is_none());
    }

    #[test]
    fn the_real_template_has_eleven_routes_nine_paths_and_both_indexes() {
        let template = Template::read(&default_path()).unwrap();
        assert_eq!(template.functions.len(), 11);
        let of_any = template.routes.iter().filter(|it| it.method == "ANY");
        assert_eq!(of_any.count(), 9);
        assert_eq!(template.routes.len(), 11 + 9);
        let indexes: Vec<_> = template
            .table
            .indexes
            .iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(indexes, ["byRequester", "byRecipient"]);
        assert_eq!(template.table.ttl.as_deref(), Some("expiresAt"));
        assert!(template.cors.is_some());
    }

    #[test]
    fn what_cannot_be_evaluated_is_named() {
        let imported = SMALL.replace("CAP: !Ref Cap", "CAP: !ImportValue x");
        assert!(
            error_of(&imported).contains("CAP of Ask"),
            "{}",
            error_of(&imported)
        );
        let unnamed = SMALL.replace("Binary: ask", "Other: ask");
        assert!(error_of(&unnamed).contains("BuildProperties.Binary of Ask"));
        for more in ["dynamodb:*", "dynamodb:GetItem, Condition: {}"] {
            let granted = SMALL.replace("dynamodb:GetItem", more);
            assert!(error_of(&granted).contains("Policies of Ask"));
        }
        let elsewhere = SMALL.replace("/index/by", "/index/*");
        assert!(error_of(&elsewhere).contains("Policies of Ask"));
        let untyped = SMALL.replace("AttributeType: S", "Type: S");
        assert!(error_of(&untyped).contains("AttributeDefinitions of Things"));
        let index = "{IndexName: i, KeySchema: [{AttributeName: pk, KeyType: HASH}], \
                     Projection: {ProjectionType: KEYS_ONLY}}";
        let narrow = format!("      GlobalSecondaryIndexes: [{index}]\n  Ask:");
        assert!(error_of(&SMALL.replace("  Ask:", &narrow)).contains("ProjectionType ALL"));
        assert!(error_of("Resources: {}").contains("one DynamoDB table, found 0"));
        assert!(error_of("a: [").contains("not YAML"));
        let gone = Template::read(Path::new("no-such-template.yaml"))
            .unwrap_err()
            .to_string();
        assert!(gone.contains("no-such-template.yaml"));
    }
}

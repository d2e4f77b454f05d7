//! SAM template: reads the functions, routes, table and CORS settings from `template.yaml`.
//!
//! This is not a CloudFormation engine. It evaluates the parameters' defaults, conditions, `Ref`, `Sub`
//! and `If`, and returns a clear error for anything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

use crate::Error;

/// The parts of the template that a stack needs.
#[derive(Debug)]
pub struct Template {
    /// The functions.
    pub functions: Vec<Function>,
    /// The routes of the HTTP API.
    pub routes: Vec<Route>,
    /// The table; the template has exactly one.
    pub table: Table,
    /// The CORS settings. Without them, pages of other origins cannot call the API.
    pub cors: Option<Cors>,
}

/// A function.
#[derive(Clone, Debug)]
pub struct Function {
    /// The resource's logical id.
    pub name: String,
    /// The executable's name.
    pub binary: String,
    /// Memory in megabytes.
    pub memory: u64,
    /// How long one invocation may take.
    pub timeout: Duration,
    /// Environment variables.
    pub environment: BTreeMap<String, EnvValue>,
    /// The permissions of its role.
    pub permissions: BTreeSet<Permission>,
}

/// A DynamoDB action that a role allows on the table or on one of its indexes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// For example `dynamodb:Query`.
    pub action: String,
    /// The index; `None` for the table itself.
    pub index: Option<String>,
}

/// The value of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvValue {
    /// A value that the template contains.
    Literal(String),
    /// The table's name.
    TableName,
    /// A dynamic reference (`{{resolve:…}}`), which is known only at deployment.
    ResolvedAtDeployment,
}

/// A route of the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// An HTTP method, or `ANY`.
    pub method: String,
    /// The path, with parameters in braces: `/chats/{chatId}/accept`.
    pub path: String,
    /// The executable's name.
    pub binary: String,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    /// `TableName`, by default the resource's logical id.
    pub name: String,
    /// Key attributes, with their types.
    pub attributes: Vec<(String, String)>,
    /// Partition key and sort key, with their key types (`HASH`, `RANGE`).
    pub keys: Vec<(String, String)>,
    /// Indexes with their keys; each projects all attributes.
    pub indexes: Vec<(String, Vec<(String, String)>)>,
    /// The attribute that contains an item's expiry time.
    pub ttl: Option<String>,
}

/// CORS settings: the access of pages of other origins.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Allowed origins, or `*`.
    pub allow_origins: Vec<String>,
    /// Allowed methods, or `*`.
    pub allow_methods: Vec<String>,
    /// Allowed request headers, or `*`.
    pub allow_headers: Vec<String>,
    /// Response headers that a page may read.
    pub expose_headers: Vec<String>,
    /// Whether requests may carry cookies.
    pub allow_credentials: bool,
    /// How many seconds a browser may cache the response to a preflight request.
    pub max_age: Option<u64>,
}

impl Template {
    /// Reads a template file.
    ///
    /// # Errors
    /// When the file cannot be read, is not YAML, or uses a feature that is not supported here.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::new(format!("cannot read {}: {error}", path.display())))?;
        Self::parse(&text).map_err(|error| Error::new(format!("{}: {error}", path.display())))
    }

    /// Parses a template.
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
    fn resources(&self, resource_type: &str) -> Vec<(&'a String, &'a Value)> {
        let resources = self.root["Resources"].as_object().into_iter().flatten();
        resources
            .filter(|(_, resource)| resource["Type"] == resource_type)
            .collect()
    }

    /// The table, and the logical id of its resource.
    fn table(&self) -> Result<(Table, String), Error> {
        let tables = self.resources("AWS::DynamoDB::Table");
        let [(resource, table)] = tables[..] else {
            return Err(Error::new(format!(
                "expected one DynamoDB table, found {}",
                tables.len()
            )));
        };
        let properties = &table["Properties"];
        // The attribute names in a list, each with one other field of its entry.
        let pairs = |parent: &Value, list: &str, field: &str| {
            let pair = |entry: &Value| {
                let name = entry["AttributeName"].as_str()?;
                Some((name.to_owned(), entry[field].as_str()?.to_owned()))
            };
            let pairs = parent[list].as_array().into_iter().flatten().map(pair);
            let pairs: Option<Vec<_>> = pairs.collect();
            let pairs = pairs.filter(|pairs| !pairs.is_empty());
            pairs.ok_or_else(|| unsupported(resource, list))
        };
        let index = |index: &Value| {
            let name = index["IndexName"].as_str();
            let name = name.ok_or_else(|| unsupported(resource, "IndexName"))?;
            if index["Projection"]["ProjectionType"] != "ALL" {
                return Err(Error::new(format!(
                    "index {name} of {resource}: only ProjectionType ALL is supported"
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
                    .ok_or_else(|| unsupported(resource, "TableName"))?,
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
                        .ok_or_else(|| unsupported(resource, "TimeToLiveSpecification"))?,
                ),
                Value::Bool(false) | Value::Null => None,
                _ => return Err(unsupported(resource, "TimeToLiveSpecification")),
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
                number.ok_or_else(|| unsupported(name, property))
            }
        };
        let binary = function["Metadata"]["BuildProperties"]["Binary"].as_str();
        let mut environment = BTreeMap::new();
        // A function's own variables override the global ones.
        for properties in [globals, own] {
            let variables = properties["Environment"]["Variables"].as_object();
            for (variable, value) in variables.into_iter().flatten() {
                let value = self
                    .env_value(value, table)
                    .ok_or_else(|| unsupported(name, variable))?;
                environment.insert(variable.clone(), value);
            }
        }
        Ok(Function {
            name: name.to_owned(),
            binary: binary
                .ok_or_else(|| unsupported(name, "BuildProperties.Binary"))?
                .to_owned(),
            memory: number("MemorySize", 128)?,
            timeout: Duration::from_secs(number("Timeout", 3)?),
            environment,
            permissions: permissions(name, own, table)?,
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
                    value.ok_or_else(|| unsupported(function, format_args!("{event}.{property}")))
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
            return Err(unsupported("the HTTP API", "CorsConfiguration"));
        }
        let list = |property: &str| -> Result<Vec<String>, Error> {
            let list = cors[property].as_array().into_iter().flatten();
            let list: Option<_> = list.map(|value| self.text(value)).collect();
            list.ok_or_else(|| unsupported("CorsConfiguration", property))
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

    fn env_value(&self, value: &Value, table: &str) -> Option<EnvValue> {
        let value = self.resolve_if(value)?;
        if value["Ref"] == table {
            return Some(EnvValue::TableName);
        }
        let text = self.text(value)?;
        let is_dynamic = text.contains("{{resolve:");
        Some(if is_dynamic {
            EnvValue::ResolvedAtDeployment
        } else {
            EnvValue::Literal(text)
        })
    }

    /// The selected branch of an `If`; any other value unchanged.
    fn resolve_if<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        let Some(choice) = value.get("Fn::If") else {
            return Some(value);
        };
        let branch = if self.condition(choice[0].as_str()?)? {
            1
        } else {
            2
        };
        self.resolve_if(&choice[branch])
    }

    /// Whether a named condition is true with the parameters' defaults.
    fn condition(&self, name: &str) -> Option<bool> {
        self.is_true(&self.root["Conditions"][name])
    }

    fn is_true(&self, condition: &Value) -> Option<bool> {
        let (function, arguments) = condition.as_object()?.iter().next()?;
        let mut operands = arguments.as_array().into_iter().flatten();
        match function.as_str() {
            "Condition" => self.condition(arguments.as_str()?),
            "Fn::Equals" => Some(self.text(&arguments[0])? == self.text(&arguments[1])?),
            "Fn::Not" => Some(!self.is_true(&arguments[0])?),
            "Fn::Or" => operands.try_fold(false, |any, operand| Some(any | self.is_true(operand)?)),
            "Fn::And" => operands.try_fold(true, |all, operand| Some(all & self.is_true(operand)?)),
            _ => None,
        }
    }

    /// A value as text, with the parameters' defaults inserted; `None` if that is not supported.
    fn text(&self, value: &Value) -> Option<String> {
        match self.resolve_if(value)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Object(function) if function.len() == 1 => {
                if let Some(name) = function.get("Ref").and_then(Value::as_str) {
                    return self.parameter(name);
                }
                self.substitute(function.get("Fn::Sub")?.as_str()?)
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

/// The permissions that a function's inline policies grant. Wildcards, `Deny`, conditions, and resources other than the
/// table and its indexes are not supported.
fn permissions(name: &str, function: &Value, table: &str) -> Result<BTreeSet<Permission>, Error> {
    let unsupported = || unsupported(name, "Policies");
    let list = |value: &Value| match value {
        Value::Array(values) => values.clone(),
        value => vec![value.clone()],
    };
    let mut permissions = BTreeSet::new();
    for policy in function["Policies"].as_array().into_iter().flatten() {
        for statement in policy["Statement"].as_array().ok_or_else(unsupported)? {
            let fields = statement.as_object().ok_or_else(unsupported)?;
            let known = |field: &String| ["Effect", "Action", "Resource"].contains(&&**field);
            if statement["Effect"] != "Allow" || !fields.keys().all(known) {
                return Err(unsupported());
            }
            for action in list(&statement["Action"]) {
                for resource in list(&statement["Resource"]) {
                    let permission = permission(&action, &resource, table);
                    permissions.insert(permission.ok_or_else(unsupported)?);
                }
            }
        }
    }
    Ok(permissions)
}

fn permission(action: &Value, resource: &Value, table: &str) -> Option<Permission> {
    let action = action.as_str()?.to_owned();
    let index = if resource["Fn::GetAtt"] == format!("{table}.Arn") {
        None
    } else {
        let prefix = format!("${{{table}.Arn}}/index/");
        let index = resource["Fn::Sub"].as_str()?.strip_prefix(&prefix)?;
        Some(index.to_owned())
    };
    let names = [Some(&action), index.as_ref()];
    let has_wildcard = names.into_iter().flatten().any(|name| name.contains('*'));
    (!has_wildcard).then_some(Permission { action, index })
}

fn unsupported(resource: &str, property: impl Display) -> Error {
    Error::new(format!(
        "cannot evaluate {property} of {resource}: use a plain value, or Ref, Sub and If with \
         parameters that have defaults"
    ))
}

/// Converts YAML to JSON, and CloudFormation's short form of functions to the long form: `!Ref x`
/// becomes `{"Ref": "x"}`.
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
                .map(|(key, value)| (key_text(key), to_json(value)));
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

fn key_text(key: &Yaml<'_>) -> String {
    match to_json(key) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The path of the template in the workspace that this program was built in.
#[must_use]
pub fn default_path() -> PathBuf {
    workspace_root().join("template.yaml")
}

/// The root folder of the workspace that this program was built in.
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
  Get:
    Type: AWS::Serverless::Function
    Metadata: {BuildProperties: {Binary: get}}
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
    fn own_properties_override_globals_and_parameters_are_substituted() {
        let template = Template::parse(SMALL).unwrap();
        let function = &template.functions[0];
        assert_eq!((function.memory, function.timeout.as_secs()), (512, 9));
        let literal = |text: &str| EnvValue::Literal(text.to_owned());
        let expected = [
            ("CAP", literal("7")),
            ("CHOSEN", literal("7")),
            ("NAME", literal("a-7-b")),
            ("SECRET", EnvValue::ResolvedAtDeployment),
            ("TABLE", EnvValue::TableName),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(function.environment, BTreeMap::from(expected));
        let permission = |action: &str, index: Option<&str>| Permission {
            action: action.to_owned(),
            index: index.map(str::to_owned),
        };
        let permissions = [
            permission("dynamodb:GetItem", None),
            permission("dynamodb:Query", Some("by")),
        ];
        assert_eq!(function.permissions, BTreeSet::from(permissions));
        assert_eq!(template.table.name, "Things");
        let routes = template.routes.iter();
        let methods: BTreeSet<_> = routes.map(|route| &*route.method).collect();
        assert_eq!(methods, BTreeSet::from(["ANY", "GET"]));
        assert!(template.cors.is_none());
    }

    #[test]
    fn the_real_template_has_eleven_routes_nine_paths_and_both_indexes() {
        let template = Template::read(&default_path()).unwrap();
        assert_eq!(template.functions.len(), 11);
        let any = template.routes.iter().filter(|route| route.method == "ANY");
        assert_eq!(any.count(), 9);
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
    fn an_unsupported_feature_is_an_error_that_names_it() {
        let imported = SMALL.replace("CAP: !Ref Cap", "CAP: !ImportValue x");
        assert!(
            error_of(&imported).contains("CAP of Get"),
            "{}",
            error_of(&imported)
        );
        let unnamed = SMALL.replace("Binary: get", "Other: get");
        assert!(error_of(&unnamed).contains("BuildProperties.Binary of Get"));
        for policy in ["dynamodb:*", "dynamodb:GetItem, Condition: {}"] {
            let changed = SMALL.replace("dynamodb:GetItem", policy);
            assert!(error_of(&changed).contains("Policies of Get"));
        }
        let other_resource = SMALL.replace("/index/by", "/index/*");
        assert!(error_of(&other_resource).contains("Policies of Get"));
        let untyped = SMALL.replace("AttributeType: S", "Type: S");
        assert!(error_of(&untyped).contains("AttributeDefinitions of Things"));
        let index = "{IndexName: i, KeySchema: [{AttributeName: pk, KeyType: HASH}], \
                     Projection: {ProjectionType: KEYS_ONLY}}";
        let keys_only = format!("      GlobalSecondaryIndexes: [{index}]\n  Get:");
        assert!(error_of(&SMALL.replace("  Get:", &keys_only)).contains("ProjectionType ALL"));
        assert!(error_of("Resources: {}").contains("one DynamoDB table, found 0"));
        assert!(error_of("a: [").contains("not YAML"));
        let missing = Template::read(Path::new("no-such-template.yaml"))
            .unwrap_err()
            .to_string();
        assert!(missing.contains("no-such-template.yaml"));
    }
}

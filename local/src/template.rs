//! SAM template: reads the functions, routes, table and CORS settings from `template.yaml`.
//!
//! This is not a CloudFormation engine. It evaluates the parts that the local server needs with the
//! defaults of the parameters (`intrinsics`), and returns a clear error for what it does not support.

mod intrinsics;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

use self::intrinsics::Evaluator;
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
    /// The permissions of its role on the table.
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
    /// Something that a function on this machine must not use: a secret, the address of a service, or a
    /// resource other than the table.
    OnlyOnAws,
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
    /// Allowed origins, or `*`. They are those of a deployment: the local server has its own
    /// (`StackOptions::allowed_origins`).
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
        let evaluator = Evaluator::new(&root);
        let reader = Reader {
            root: &root,
            evaluator,
        };
        let (table, table_id) = reader.table()?;
        let (mut functions, mut routes) = (Vec::new(), Vec::new());
        for (name, function) in reader.resources("AWS::Serverless::Function")? {
            let binary = &function["Metadata"]["BuildProperties"]["Binary"];
            let Some(binary) = binary.as_str() else {
                // A function that serves no route needs no binary: it only helps to deploy the others.
                if routes_of(name, function, "")?.is_empty() {
                    continue;
                }
                return Err(unsupported(name, "BuildProperties.Binary"));
            };
            functions.push(reader.function(name, function, binary, table_id)?);
            routes.extend(routes_of(name, function, binary)?);
        }
        if routes.is_empty() {
            return Err(Error::new("no function has an event of type HttpApi"));
        }
        Ok(Self {
            functions,
            routes,
            table,
            cors: reader.cors()?,
        })
    }
}

struct Reader<'a> {
    root: &'a Value,
    evaluator: Evaluator<'a>,
}

impl<'a> Reader<'a> {
    /// The resources of a type, by logical id, without those that a condition removes.
    fn resources(&self, resource_type: &str) -> Result<Vec<(&'a str, &'a Value)>, Error> {
        let resources = self.root["Resources"].as_object().into_iter().flatten();
        let mut existing = Vec::new();
        for (id, resource) in resources.filter(|(_, resource)| resource["Type"] == resource_type) {
            let exists = match &resource["Condition"] {
                Value::Null => Some(true),
                name => name
                    .as_str()
                    .and_then(|name| self.evaluator.condition(name)),
            };
            if exists.ok_or_else(|| unsupported(id, "Condition"))? {
                existing.push((id.as_str(), resource));
            }
        }
        Ok(existing)
    }

    /// The table, and the logical id of its resource.
    fn table(&self) -> Result<(Table, &'a str), Error> {
        let tables = self.resources("AWS::DynamoDB::Table")?;
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
            name: self
                .evaluator
                .table_name(resource)
                .ok_or_else(|| unsupported(resource, "TableName"))?,
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
        Ok((table, resource))
    }

    fn function(
        &self,
        name: &str,
        function: &Value,
        binary: &str,
        table: &str,
    ) -> Result<Function, Error> {
        let globals = &self.root["Globals"]["Function"];
        let own = &function["Properties"];
        let number = |property: &str, default: u64| match (&own[property], &globals[property]) {
            (Value::Null, Value::Null) => Ok(default),
            (Value::Null, value) | (value, _) => {
                let number = self.evaluator.text(value);
                let number = number.and_then(|number| number.parse().ok());
                number.ok_or_else(|| unsupported(name, property))
            }
        };
        let mut environment = BTreeMap::new();
        // A function's own variables override the global ones.
        for properties in [globals, own] {
            let variables = properties["Environment"]["Variables"].as_object();
            for (variable, value) in variables.into_iter().flatten() {
                let value = self.env_value(variable, value, table);
                let value = value.ok_or_else(|| unsupported(name, variable))?;
                environment.insert(variable.clone(), value);
            }
        }
        Ok(Function {
            name: name.to_owned(),
            binary: binary.to_owned(),
            memory: number("MemorySize", 128)?,
            timeout: Duration::from_secs(number("Timeout", 3)?),
            environment,
            permissions: self
                .permissions(own, table)
                .ok_or_else(|| unsupported(name, "Policies"))?,
        })
    }

    /// The permissions that a function's inline policies grant on the table and its indexes. Statements
    /// for other services are ignored. Wildcards, `Deny`, conditions and other resources are not supported.
    fn permissions(&self, function: &Value, table: &str) -> Option<BTreeSet<Permission>> {
        let table_arn = self.evaluator.table_arn(table)?;
        let mut permissions = BTreeSet::new();
        for policy in self.evaluator.entries(&function["Policies"])? {
            for statement in self.evaluator.entries(policy.get("Statement")?)? {
                let mut actions = self.evaluator.texts(statement.get("Action")?)?;
                actions.retain(|action| !is_of_other_service(action));
                if actions.is_empty() {
                    continue;
                }
                let mut fields = statement.as_object()?.keys().map(String::as_str);
                let known = ["Sid", "Effect", "Action", "Resource"];
                if statement["Effect"] != "Allow" || !fields.all(|field| known.contains(&field)) {
                    return None;
                }
                for resource in self.evaluator.texts(statement.get("Resource")?)? {
                    let index = match resource.strip_prefix(&table_arn)? {
                        "" => None,
                        path => Some(path.strip_prefix("/index/")?.to_owned()),
                    };
                    for action in actions.iter().cloned() {
                        let index = index.clone();
                        permissions.insert(Permission { action, index });
                    }
                }
            }
        }
        let has_wildcard = |permission: &Permission| {
            let index = permission.index.as_deref().unwrap_or_default();
            permission.action.contains(['*', '?']) || index.contains(['*', '?'])
        };
        (!permissions.iter().any(has_wildcard)).then_some(permissions)
    }

    /// The CORS configuration of the API: SAM's property `CorsConfiguration`, or API Gateway's OpenAPI
    /// extension, whose members start with a lower case letter.
    fn cors(&self) -> Result<Option<Cors>, Error> {
        const EXTENSION: &str = "x-amazon-apigateway-cors";

        let apis = self.resources("AWS::Serverless::HttpApi")?;
        let extension = apis
            .iter()
            .map(|(_, api)| &api["Properties"]["DefinitionBody"][EXTENSION]);
        let extension = extension.into_iter().find(|cors| !cors.is_null());
        let property = apis
            .iter()
            .map(|(_, api)| &api["Properties"]["CorsConfiguration"]);
        let property = property.chain([&self.root["Globals"]["HttpApi"]["CorsConfiguration"]]);
        let property = property.into_iter().find(|cors| !cors.is_null());
        let Some(cors) = extension.or(property) else {
            return Ok(None);
        };
        if !cors.is_object() {
            return Err(unsupported("the HTTP API", "CorsConfiguration"));
        }
        let member = |name: &str| match extension {
            Some(cors) => &cors[name[..1].to_lowercase() + &name[1..]],
            None => &cors[name],
        };
        let invalid = |property: &str| unsupported("CorsConfiguration", property);
        let list = |property: &str| -> Result<Vec<String>, Error> {
            if member(property).is_null() {
                return Ok(Vec::new());
            }
            let texts = self.evaluator.texts(member(property));
            let mut texts = texts.ok_or_else(|| invalid(property))?;
            // A list parameter whose default is empty has one empty item.
            texts.retain(|text| !text.is_empty());
            Ok(texts)
        };
        let text = |property: &str| -> Result<Option<String>, Error> {
            if member(property).is_null() {
                return Ok(None);
            }
            let text = self.evaluator.text(member(property));
            text.map(Some).ok_or_else(|| invalid(property))
        };
        let max_age = text("MaxAge")?.map(|seconds| seconds.parse::<u64>());
        Ok(Some(Cors {
            allow_origins: list("AllowOrigins")?,
            allow_methods: list("AllowMethods")?,
            allow_headers: list("AllowHeaders")?,
            expose_headers: list("ExposeHeaders")?,
            allow_credentials: text("AllowCredentials")?.as_deref() == Some("true"),
            max_age: max_age.transpose().map_err(|_| invalid("MaxAge"))?,
        }))
    }

    fn env_value(&self, variable: &str, value: &Value, table: &str) -> Option<EnvValue> {
        if variable == "JWT_SECRET_ARN" || variable.starts_with("AWS_ENDPOINT_URL") {
            return Some(EnvValue::OnlyOnAws);
        }
        let value = self.evaluator.select_branch(value)?;
        match value["Ref"].as_str() {
            Some(id) if id == table => return Some(EnvValue::TableName),
            Some(id) if !self.root["Resources"][id].is_null() => return Some(EnvValue::OnlyOnAws),
            _ => {}
        }
        let text = self.evaluator.text(value)?;
        let is_dynamic = text.contains("{{resolve:");
        Some(if is_dynamic {
            EnvValue::ResolvedAtDeployment
        } else {
            EnvValue::Literal(text)
        })
    }
}

fn routes_of(function: &str, properties: &Value, binary: &str) -> Result<Vec<Route>, Error> {
    let events = properties["Properties"]["Events"].as_object();
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

/// Whether an action of a policy, such as `kms:Decrypt`, certainly belongs to another service than DynamoDB.
fn is_of_other_service(action: &str) -> bool {
    let service = action.split_once(':').map(|(service, _)| service);
    service.is_some_and(|service| service != "dynamodb" && !service.contains(['*', '?']))
}

fn unsupported(resource: &str, property: impl Display) -> Error {
    Error::new(format!(
        "cannot evaluate {property} of {resource}: use plain values, parameters that have defaults, and \
         the functions Ref, GetAtt, Sub, If, Join, Split and Select"
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
  ExistingTable: {Type: String, Default: ""}
  Origins: {Type: CommaDelimitedList, Default: "https://a.example, https://b.example"}
  Headers: {Type: CommaDelimitedList, Default: ""}
Conditions:
  CreatesTable: !Equals [!Ref ExistingTable, ""]
  IsSeven: !Equals [!Ref Cap, 7]
  IsOther: !Not [!Condition IsSeven]
  IsAny: !Or [!Condition IsOther, !Condition IsSeven]
Globals:
  Function:
    Timeout: 9
    Environment:
      Variables:
        TABLE: !If [CreatesTable, !Ref Things, !Ref ExistingTable]
        SECRET: "{{resolve:secretsmanager:x}}"
        JWT_SECRET_ARN: !ImportValue secret
        API: !Ref Api
        AWS_ENDPOINT_URL_DYNAMODB: https://dynamodb.us-east-1.amazonaws.com
Resources:
  Things:
    Type: AWS::DynamoDB::Table
    Condition: CreatesTable
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
            - Effect: Allow
              Action: [dynamodb:Query]
              Resource:
                - !Sub
                  - arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${Table}/index/by
                  - Table: !If [CreatesTable, !Ref Things, !Ref ExistingTable]
            - !If
              - IsSeven
              - {Effect: Allow, Action: secretsmanager:GetSecretValue, Resource: !ImportValue secret}
              - !Ref AWS::NoValue
            - !If [IsOther, {Effect: Allow, Action: "*", Resource: "*"}, !Ref AWS::NoValue]
      Events:
        Route: {Type: HttpApi, Properties: {Method: get, Path: "/a/{b}"}}
        Other: {Type: HttpApi, Properties: {Method: any, Path: "/a/{b}"}}
  Hook:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: index.handler, InlineCode: "pass"}
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      CorsConfiguration:
        AllowOrigins: !Ref Origins
        AllowMethods: [GET]
        AllowHeaders: !Split [",", !Join [",", [authorization, !Join [",", !Ref Headers]]]]
        MaxAge: !Ref Cap
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
            ("API", EnvValue::OnlyOnAws),
            ("AWS_ENDPOINT_URL_DYNAMODB", EnvValue::OnlyOnAws),
            ("CAP", literal("7")),
            ("CHOSEN", literal("7")),
            ("JWT_SECRET_ARN", EnvValue::OnlyOnAws),
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
        let cors = template.cors.unwrap();
        assert_eq!(
            cors.allow_origins,
            ["https://a.example", "https://b.example"]
        );
        assert_eq!(cors.allow_headers, ["authorization"]);
        assert_eq!(cors.max_age, Some(7));
    }

    #[test]
    fn a_function_without_a_binary_is_left_out_unless_it_serves_a_route() {
        let names: Vec<_> = Template::parse(SMALL)
            .unwrap()
            .functions
            .into_iter()
            .map(|function| function.name)
            .collect();
        assert_eq!(names, ["Get"]);
        let unnamed = SMALL.replace("Binary: get", "Other: get");
        assert!(error_of(&unnamed).contains("BuildProperties.Binary of Get"));
    }

    #[test]
    fn the_real_template_has_twenty_routes_sixteen_paths_and_both_indexes() {
        let template = Template::read(&default_path()).unwrap();
        assert_eq!(template.functions.len(), 20);
        let any = template.routes.iter().filter(|route| route.method == "ANY");
        assert_eq!(any.count(), 16);
        assert_eq!(template.routes.len(), 20 + 16);
        let indexes: Vec<_> = template
            .table
            .indexes
            .iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(indexes, ["byRequester", "byRecipient"]);
        assert_eq!(template.table.ttl.as_deref(), Some("expiresAt"));
        let cors = template.cors.unwrap();
        assert_eq!(cors.allow_origins, ["*"]);
        assert_eq!(
            cors.allow_methods,
            ["GET", "POST", "PUT", "PATCH", "DELETE"]
        );
        // The last four are the headers of Sentry and OpenTelemetry.
        for header in [
            "authorization",
            "content-type",
            "idempotency-key",
            "baggage",
            "sentry-trace",
            "traceparent",
            "tracestate",
        ] {
            let allowed = &cors.allow_headers;
            assert!(
                allowed.iter().any(|allowed| allowed == header),
                "{allowed:?}"
            );
        }
    }

    #[test]
    fn the_functions_have_the_default_windows_and_safety_features() {
        let template = Template::read(&default_path()).unwrap();
        for function in template.functions {
            for (variable, default) in [
                ("EDIT_WINDOW_SECONDS", "86400"),
                ("DELETE_WINDOW_SECONDS", "0"),
                ("SAFETY_FEATURES", "on"),
            ] {
                assert_eq!(
                    function.environment[variable],
                    EnvValue::Literal(default.to_owned()),
                    "{variable} of {}",
                    function.name
                );
            }
        }
    }

    #[test]
    fn a_function_on_this_machine_gets_no_secret_and_no_service_of_aws() {
        let template = Template::read(&default_path()).unwrap();
        for function in template.functions {
            for (variable, value) in function.environment {
                let text = match value {
                    EnvValue::Literal(text) => text,
                    EnvValue::TableName | EnvValue::OnlyOnAws => continue,
                    EnvValue::ResolvedAtDeployment => panic!("{variable} of {}", function.name),
                };
                assert!(!text.contains("amazonaws.com"), "{variable}: {text}");
                assert!(!text.contains("secret"), "{variable}: {text}");
            }
        }
    }

    #[test]
    fn an_unsupported_feature_is_an_error_that_names_it() {
        let imported = SMALL.replace("CAP: !Ref Cap", "CAP: !ImportValue x");
        assert!(
            error_of(&imported).contains("CAP of Get"),
            "{}",
            error_of(&imported)
        );
        for policy in [
            "dynamodb:*",
            "\"*\"",
            "\"*:GetItem\"",
            "dynamodb:GetItem, Condition: {}",
        ] {
            let changed = SMALL.replace("dynamodb:GetItem", policy);
            assert!(error_of(&changed).contains("Policies of Get"), "{policy}");
        }
        let other_table =
            SMALL.replace("!GetAtt Things.Arn", "\"arn:aws:dynamodb:::table/Others\"");
        assert!(error_of(&other_table).contains("Policies of Get"));
        let existing = SMALL.replace(r#"Default: ""}"#, "Default: chats}");
        assert!(error_of(&existing).contains("one DynamoDB table, found 0"));
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

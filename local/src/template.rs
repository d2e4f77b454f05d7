//! SAM template: reads the functions, routes, table, CORS settings, WebSocket API and event source mapping from
//! `template.yaml`.
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

use self::intrinsics::{Evaluator, intrinsic};
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
    /// The WebSocket API; the template has at most one.
    pub live: Option<WebSocketApi>,
    /// The mapping that invokes a function with the records of the table's stream; the template has at most one.
    pub stream_mapping: Option<StreamMapping>,
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
    /// The permissions of its role on the table, its stream and the WebSocket connections.
    pub permissions: BTreeSet<Permission>,
}

/// An action that a role allows on one target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// For example `dynamodb:Query`.
    pub action: String,
    /// What the action is allowed on.
    pub target: Target,
}

/// What an action is allowed on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The table itself.
    Table,
    /// The index with this name.
    Index(String),
    /// The table's stream.
    Stream,
    /// The connections of the WebSocket API.
    Connections {
        /// The HTTP method of the request to `@connections`, for example `POST`.
        method: String,
    },
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
    /// What the records of the table's stream contain, such as `NEW_AND_OLD_IMAGES`; `None` if the table has no
    /// stream.
    pub stream: Option<String>,
}

/// The WebSocket API: the name of the executable for each route, if the API has the route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketApi {
    /// The stage, which is the path that clients connect to.
    pub stage: String,
    /// The authorizer of `$connect`.
    pub authorizer: Option<String>,
    /// `$connect`.
    pub connect: Option<String>,
    /// `$default`: all frames of clients.
    pub default: Option<String>,
    /// `$disconnect`.
    pub disconnect: Option<String>,
}

/// The event source mapping of the table's stream. Its `StartingPosition` is not here: a stack reads the records
/// that are written after its start.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamMapping {
    /// The executable's name.
    pub function: String,
    /// The maximum number of records in an event.
    pub batch_size: usize,
    /// The maximum number of batches at a time.
    pub parallelization_factor: usize,
    /// How often a batch that failed is tried again; `None` until its records are too old.
    pub max_retries: Option<u32>,
    /// Records that are older are dropped; `None` if none are.
    pub max_record_age: Option<Duration>,
    /// Whether a batch that failed is split in two.
    pub bisects: bool,
    /// Whether the function reports which records failed.
    pub reports_failures: bool,
    /// The event has a record if one of these patterns matches it, or if there are no patterns.
    pub filters: Vec<Value>,
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
        let stream_mapping = reader.stream_mapping(&table, table_id)?;
        let (mut functions, mut routes) = (Vec::new(), Vec::new());
        for (name, function) in reader.resources("AWS::Serverless::Function")? {
            let Some(binary) = binary_of(function) else {
                // A function that nothing invokes needs no binary: it only helps to deploy the others. The WebSocket
                // API and the mapping check their functions themselves.
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
            live: reader.websocket_api()?,
            stream_mapping,
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
        let unsupported_stream = || unsupported(resource, "StreamSpecification");
        let stream = self.evaluator.entries(&properties["StreamSpecification"]);
        let stream = stream.ok_or_else(unsupported_stream)?;
        let stream = stream.first().map(|stream| {
            let view_type = self.evaluator.text(&stream["StreamViewType"]);
            view_type.ok_or_else(unsupported_stream)
        });
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
            stream: stream.transpose()?,
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

    /// The only resource of a type, if there is one. `what` describes the type.
    fn optional_resource(
        &self,
        resource_type: &str,
        what: &str,
    ) -> Result<Option<(&'a str, &'a Value)>, Error> {
        match self.resources(resource_type)?[..] {
            [] => Ok(None),
            [resource] => Ok(Some(resource)),
            ref resources => {
                let count = resources.len();
                Err(Error::new(format!(
                    "expected at most one {what}, found {count}"
                )))
            }
        }
    }

    /// The WebSocket API with the functions of its routes. The HTTP API is of another type, `AWS::Serverless::HttpApi`.
    fn websocket_api(&self) -> Result<Option<WebSocketApi>, Error> {
        let Some((id, api)) = self.optional_resource("AWS::ApiGatewayV2::Api", "WebSocket API")?
        else {
            return Ok(None);
        };
        if api["Properties"]["ProtocolType"] != "WEBSOCKET" {
            return Err(Error::new(format!(
                "ProtocolType of {id} must be WEBSOCKET; use AWS::Serverless::HttpApi for an HTTP API"
            )));
        }
        let [(stage_id, stage)] = self.resources("AWS::ApiGatewayV2::Stage")?[..] else {
            return Err(Error::new(format!("{id} must have one stage")));
        };
        let stage = self.evaluator.text(&stage["Properties"]["StageName"]);
        let mut live = WebSocketApi {
            stage: stage.ok_or_else(|| unsupported(stage_id, "StageName"))?,
            authorizer: None,
            connect: None,
            default: None,
            disconnect: None,
        };
        for (route_id, route) in self.resources("AWS::ApiGatewayV2::Route")? {
            let properties = &route["Properties"];
            let target = properties["Target"]["Fn::Sub"].as_str();
            let integration = target
                .and_then(|target| target.strip_prefix("integrations/${")?.strip_suffix('}'))
                .ok_or_else(|| unsupported(route_id, "Target"))?;
            let uri = self.property(integration, "IntegrationUri")?;
            let function = Some(self.function_of_uri(integration, "IntegrationUri", uri)?);
            match properties["RouteKey"].as_str() {
                Some("$connect") => {
                    live.connect = function;
                    if let Some(authorizer) = referenced_resource(&properties["AuthorizerId"]) {
                        let uri = self.property(authorizer, "AuthorizerUri")?;
                        let function = self.function_of_uri(authorizer, "AuthorizerUri", uri)?;
                        live.authorizer = Some(function);
                    }
                }
                Some("$default") => live.default = function,
                Some("$disconnect") => live.disconnect = function,
                _ => {
                    return Err(Error::new(format!(
                        "RouteKey of {route_id} must be $connect, $default or $disconnect"
                    )));
                }
            }
        }
        Ok(Some(live))
    }

    /// A property of a resource.
    fn property(&self, resource: &str, property: &str) -> Result<&'a Value, Error> {
        let value = &self.root["Resources"][resource]["Properties"][property];
        if value.is_null() {
            return Err(unsupported(resource, property));
        }
        Ok(value)
    }

    /// The executable of the function in the URI of an integration or an authorizer: a `Sub` with the variable
    /// `Function`.
    fn function_of_uri(
        &self,
        resource: &str,
        property: &str,
        uri: &Value,
    ) -> Result<String, Error> {
        self.referenced_binary(resource, property, &uri["Fn::Sub"][1]["Function"])
    }

    /// The event source mapping of the table's stream.
    fn stream_mapping(
        &self,
        table: &Table,
        table_id: &str,
    ) -> Result<Option<StreamMapping>, Error> {
        let Some((id, mapping)) =
            self.optional_resource("AWS::Lambda::EventSourceMapping", "event source mapping")?
        else {
            return Ok(None);
        };
        let properties = &mapping["Properties"];
        let source = self.evaluator.text(&properties["EventSourceArn"]);
        let table_arn = self.evaluator.table_arn(table_id);
        let is_stream = source.zip(table_arn).is_some_and(|(source, table_arn)| {
            let path = source.strip_prefix(&table_arn);
            path.is_some_and(|path| path.starts_with("/stream/"))
        });
        if !is_stream || table.stream.is_none() {
            return Err(Error::new(format!(
                "EventSourceArn of {id} must be the stream of {table_id}, which needs a StreamSpecification"
            )));
        }
        // A number that is not negative, and for -1, which means no limit, `None`.
        let number = |property: &str, default: i64| -> Result<Option<u32>, Error> {
            let number = match &properties[property] {
                Value::Null => Some(default),
                value => self
                    .evaluator
                    .text(value)
                    .and_then(|text| text.parse().ok()),
            };
            match number {
                Some(-1) => Ok(None),
                Some(number) => u32::try_from(number)
                    .map(Some)
                    .map_err(|_| unsupported(id, property)),
                None => Err(unsupported(id, property)),
            }
        };
        let positive = |property: &str, default: i64| -> Result<usize, Error> {
            let number = number(property, default)?.and_then(|number| usize::try_from(number).ok());
            let number = number.filter(|number| *number > 0);
            number.ok_or_else(|| unsupported(id, property))
        };
        let bisects = match &properties["BisectBatchOnFunctionError"] {
            Value::Null => Some("false".to_owned()),
            flag => self.evaluator.text(flag),
        };
        let bisects = bisects.ok_or_else(|| unsupported(id, "BisectBatchOnFunctionError"))?;
        let response_types = match &properties["FunctionResponseTypes"] {
            Value::Null => Some(Vec::new()),
            types => self.evaluator.texts(types),
        };
        let response_types =
            response_types.ok_or_else(|| unsupported(id, "FunctionResponseTypes"))?;
        Ok(Some(StreamMapping {
            function: self.referenced_binary(id, "FunctionName", &properties["FunctionName"])?,
            batch_size: positive("BatchSize", 100)?,
            parallelization_factor: positive("ParallelizationFactor", 1)?,
            max_retries: number("MaximumRetryAttempts", -1)?,
            max_record_age: number("MaximumRecordAgeInSeconds", -1)?
                .map(|seconds| Duration::from_secs(seconds.into())),
            bisects: bisects == "true",
            reports_failures: response_types
                .iter()
                .any(|response_type| response_type == "ReportBatchItemFailures"),
            filters: self
                .filters(&properties["FilterCriteria"]["Filters"])
                .ok_or_else(|| unsupported(id, "FilterCriteria"))?,
        }))
    }

    /// The patterns of filters. Patterns that compare anything but exact values are not supported.
    fn filters(&self, filters: &Value) -> Option<Vec<Value>> {
        let filters = self.evaluator.entries(filters)?.into_iter();
        let pattern = |filter: &Value| {
            let pattern = self.evaluator.text(filter.get("Pattern")?)?;
            let pattern = serde_json::from_str(&pattern).ok()?;
            has_only_exact_values(&pattern).then_some(pattern)
        };
        filters.map(pattern).collect()
    }

    /// The executable's name of the function that a property of a resource refers to.
    fn referenced_binary(
        &self,
        resource: &str,
        property: &str,
        value: &Value,
    ) -> Result<String, Error> {
        let id = self
            .evaluator
            .select_branch(value)
            .and_then(referenced_resource);
        let functions = self.resources("AWS::Serverless::Function")?;
        let function = functions.into_iter().find(|(name, _)| Some(*name) == id);
        let (name, function) = function.ok_or_else(|| unsupported(resource, property))?;
        let binary = binary_of(function).map(str::to_owned);
        binary.ok_or_else(|| unsupported(name, "BuildProperties.Binary"))
    }

    /// The permissions that a function's inline policies grant on the table, its indexes, its stream and the
    /// connections of the WebSocket API. Statements for other services are ignored. Wildcards, `Deny`, conditions
    /// and other resources are not supported, except the wildcard for `ListStreams`, which IAM requires.
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
                    for action in actions.iter().cloned() {
                        let target = target(&action, &resource, &table_arn)?;
                        permissions.insert(Permission { action, target });
                    }
                }
            }
        }
        let has_wildcard = |permission: &Permission| {
            let name = match &permission.target {
                Target::Table | Target::Stream => "",
                Target::Index(name) => name,
                Target::Connections { method } => method,
            };
            permission.action.contains(['*', '?']) || name.contains(['*', '?'])
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

/// The name of a function's executable.
fn binary_of(function: &Value) -> Option<&str> {
    function["Metadata"]["BuildProperties"]["Binary"].as_str()
}

/// The logical id in a reference to a resource or to one of its attributes. SAM accepts an attribute, such as
/// `Function.Alias`, also in `Ref`.
fn referenced_resource(value: &Value) -> Option<&str> {
    let (function, argument) = intrinsic(value)?;
    let text = match function {
        "Ref" => argument.as_str()?,
        "Fn::GetAtt" => argument.as_str().or_else(|| argument[0].as_str())?,
        "Fn::Sub" => argument.as_str()?.strip_prefix("${")?.strip_suffix('}')?,
        _ => return None,
    };
    Some(text.split_once('.').map_or(text, |(id, _)| id))
}

/// Whether a pattern of a filter is an object with nested objects and lists of values.
fn has_only_exact_values(pattern: &Value) -> bool {
    match pattern {
        Value::Object(members) => members.values().all(has_only_exact_values),
        Value::Array(values) => {
            let mut values = values.iter();
            values.all(|value| !value.is_object() && !value.is_array())
        }
        _ => false,
    }
}

/// What a statement of a policy allows an action on. `None` if the action does not fit the resource, or the resource
/// is not the table or the WebSocket API.
fn target(action: &str, resource: &str, table_arn: &str) -> Option<Target> {
    if action.starts_with("execute-api:") {
        let path = resource.strip_prefix(&Evaluator::api_arn_prefix())?;
        let segments: Vec<_> = path.split('/').collect();
        return match segments[..] {
            [_stage, method, "@connections", "*"] => Some(Target::Connections {
                method: method.to_owned(),
            }),
            _ => None,
        };
    }
    if action == "dynamodb:ListStreams" && resource == "*" {
        return Some(Target::Stream);
    }
    match resource.strip_prefix(table_arn)? {
        "" => Some(Target::Table),
        path if path.starts_with("/stream/") => Some(Target::Stream),
        path => Some(Target::Index(path.strip_prefix("/index/")?.to_owned())),
    }
}

/// Whether an action of a policy, such as `kms:Decrypt`, certainly belongs to another service than DynamoDB and API
/// Gateway.
fn is_of_other_service(action: &str) -> bool {
    let service = action.split_once(':').map(|(service, _)| service);
    service.is_some_and(|service| {
        !["dynamodb", "execute-api"].contains(&service) && !service.contains(['*', '?'])
    })
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

    /// What [`SMALL`] has besides if the parameter `Realtime` is on.
    const LIVE: &str = r#"
  Push:
    Type: AWS::Serverless::Function
    Condition: HasRealtime
    Metadata: {BuildProperties: {Binary: push}}
    Properties:
      Environment:
        Variables:
          AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI: !Sub "https://${Live}.execute-api.${AWS::Region}.amazonaws.com/live"
      Policies:
        - Statement:
            - Effect: Allow
              Action: execute-api:ManageConnections
              Resource: !Sub "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Live}/live/POST/@connections/*"
            - Effect: Allow
              Action: [dynamodb:GetRecords]
              Resource: !GetAtt Things.StreamArn
            - {Effect: Allow, Action: dynamodb:ListStreams, Resource: "*"}
  Open:
    Type: AWS::Serverless::Function
    Condition: HasRealtime
    Metadata: {BuildProperties: {Binary: open}}
  Live:
    Type: AWS::ApiGatewayV2::Api
    Condition: HasRealtime
    Properties: {ProtocolType: WEBSOCKET, RouteSelectionExpression: $request.body.type}
  Stage:
    Type: AWS::ApiGatewayV2::Stage
    Condition: HasRealtime
    Properties: {ApiId: !Ref Live, StageName: live}
  Authorizer:
    Type: AWS::ApiGatewayV2::Authorizer
    Condition: HasRealtime
    Properties:
      AuthorizerUri: !Sub ["arn:${Function}/invocations", {Function: !GetAtt Get.Alias}]
  Connect:
    Type: AWS::ApiGatewayV2::Route
    Condition: HasRealtime
    Properties:
      RouteKey: $connect
      Target: !Sub "integrations/${ConnectIntegration}"
      AuthorizerId: !Ref Authorizer
  ConnectIntegration:
    Type: AWS::ApiGatewayV2::Integration
    Condition: HasRealtime
    Properties:
      IntegrationUri: !Sub ["arn:${Function}/invocations", {Function: !Ref Open.Alias}]
  Default:
    Type: AWS::ApiGatewayV2::Route
    Condition: HasRealtime
    Properties: {RouteKey: $default, Target: !Sub "integrations/${DefaultIntegration}"}
  DefaultIntegration:
    Type: AWS::ApiGatewayV2::Integration
    Condition: HasRealtime
    Properties:
      IntegrationUri: !Sub ["arn:${Function}/invocations", {Function: !Sub "${Push.Alias}"}]
  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Condition: HasRealtime
    Properties:
      FunctionName: !Ref Push.Alias
      EventSourceArn: !If [CreatesTable, !GetAtt Things.StreamArn, !Ref ExistingTable]
      StartingPosition: TRIM_HORIZON
      ParallelizationFactor: !Ref Cap
      MaximumRetryAttempts: 5
      MaximumRecordAgeInSeconds: 300
      BisectBatchOnFunctionError: true
      FunctionResponseTypes: [ReportBatchItemFailures]
      FilterCriteria: {Filters: [{Pattern: '{"dynamodb":{"NewImage":{"type":{"S":["Chat"]}}}}'}]}
"#;

    /// A template with a WebSocket API and a stream, if `realtime` is `on`.
    fn live_template(realtime: &str) -> String {
        let parameter = format!("Parameters:\n  Realtime: {{Type: String, Default: {realtime}}}\n");
        let condition = "Conditions:\n  HasRealtime: !Equals [!Ref Realtime, \"on\"]\n";
        let stream = "      StreamSpecification: \
                      !If [HasRealtime, {StreamViewType: NEW_AND_OLD_IMAGES}, !Ref AWS::NoValue]\n  Get:\n";
        let template = SMALL.replacen("Parameters:\n", &parameter, 1);
        let template = template.replacen("Conditions:\n", condition, 1);
        template.replacen("  Get:\n", stream, 1) + &LIVE[1..]
    }

    #[test]
    fn a_websocket_api_and_a_stream_are_read_with_their_functions_and_permissions() {
        let template = Template::parse(&live_template("\"on\"")).unwrap();
        let binary = |name: &str| Some(name.to_owned());
        let expected = WebSocketApi {
            stage: "live".to_owned(),
            authorizer: binary("get"),
            connect: binary("open"),
            default: binary("push"),
            disconnect: None,
        };
        assert_eq!(template.live, Some(expected));
        assert_eq!(template.table.stream.as_deref(), Some("NEW_AND_OLD_IMAGES"));
        let expected = StreamMapping {
            function: "push".to_owned(),
            batch_size: 100,
            parallelization_factor: 7,
            max_retries: Some(5),
            max_record_age: Some(Duration::from_mins(5)),
            bisects: true,
            reports_failures: true,
            filters: vec![serde_json::json!({"dynamodb": {"NewImage": {"type": {"S": ["Chat"]}}}})],
        };
        assert_eq!(template.stream_mapping, Some(expected));
        let mut functions = template.functions.into_iter();
        let push = functions
            .find(|function| function.binary == "push")
            .unwrap();
        let permission = |action: &str, target: Target| Permission {
            action: action.to_owned(),
            target,
        };
        let connections = Target::Connections {
            method: "POST".to_owned(),
        };
        let expected = [
            permission("dynamodb:GetRecords", Target::Stream),
            permission("dynamodb:ListStreams", Target::Stream),
            permission("execute-api:ManageConnections", connections),
        ];
        assert_eq!(push.permissions, BTreeSet::from(expected));
        let endpoint = &push.environment["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"];
        assert_eq!(endpoint, &EnvValue::OnlyOnAws);
    }

    #[test]
    fn a_condition_removes_the_websocket_api_and_the_stream() {
        let template = Template::parse(&live_template("\"off\"")).unwrap();
        assert_eq!((template.live, template.stream_mapping), (None, None));
        assert_eq!(template.table.stream, None);
        let functions = template.functions.iter();
        let binaries: Vec<_> = functions.map(|function| &*function.binary).collect();
        assert_eq!(binaries, ["get"]);
    }

    #[test]
    fn an_unsupported_websocket_api_or_mapping_is_an_error_that_names_it() {
        let live = live_template("\"on\"");
        for (from, to, expected) in [
            (
                "!Ref Open.Alias",
                "!ImportValue open",
                "IntegrationUri of ConnectIntegration",
            ),
            (
                "{ProtocolType: WEBSOCKET",
                "{ProtocolType: HTTP",
                "ProtocolType of Live",
            ),
            (
                "\"integrations/${ConnectIntegration}\"",
                "\"${ConnectIntegration}\"",
                "Target of Connect",
            ),
            (
                "Binary: open",
                "Other: open",
                "BuildProperties.Binary of Open",
            ),
            (
                "RouteKey: $default",
                "RouteKey: join",
                "RouteKey of Default",
            ),
            (
                "StageName: live",
                "StageName: !ImportValue x",
                "StageName of Stage",
            ),
            (
                "FunctionName: !Ref Push.Alias",
                "FunctionName: push",
                "FunctionName of Mapping",
            ),
            (
                "{StreamViewType: NEW_AND_OLD_IMAGES}",
                "!Ref AWS::NoValue",
                "EventSourceArn of Mapping",
            ),
            (
                "ParallelizationFactor: !Ref Cap",
                "ParallelizationFactor: 0",
                "ParallelizationFactor of Mapping",
            ),
            (
                "[\"Chat\"]",
                "[{\"prefix\": \"Chat\"}]",
                "FilterCriteria of Mapping",
            ),
            ("${Live}/live/POST/", "${Live}/live/*/", "Policies of Push"),
            (
                "execute-api:ManageConnections",
                "execute-api:*",
                "Policies of Push",
            ),
            (
                "[dynamodb:GetRecords]",
                "[execute-api:ManageConnections]",
                "Policies of Push",
            ),
            (
                "dynamodb:ListStreams, Resource",
                "dynamodb:GetRecords, Resource",
                "Policies of Push",
            ),
        ] {
            assert!(live.contains(from), "{from}");
            let error = error_of(&live.replacen(from, to, 1));
            assert!(error.contains(expected), "{from}: {error}");
        }
    }

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
        let permission = |action: &str, target: Target| Permission {
            action: action.to_owned(),
            target,
        };
        let permissions = [
            permission("dynamodb:GetItem", Target::Table),
            permission("dynamodb:Query", Target::Index("by".to_owned())),
        ];
        assert_eq!(function.permissions, BTreeSet::from(permissions));
        assert_eq!(template.table.name, "Things");
        assert_eq!(template.table.stream, None);
        assert_eq!((template.live, template.stream_mapping), (None, None));
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
        assert_eq!(template.functions.len(), 20 + 5);
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
        assert_eq!(template.table.stream.as_deref(), Some("NEW_AND_OLD_IMAGES"));
        let live = template.live.unwrap();
        assert_eq!(live.stage, "live");
        for (function, binary) in [
            (live.authorizer, "authorize-connection"),
            (live.connect, "open-connection"),
            (live.default, "receive-frame"),
            (live.disconnect, "close-connection"),
        ] {
            assert_eq!(function.as_deref(), Some(binary));
        }
        let mapping = template.stream_mapping.unwrap();
        assert_eq!(mapping.function, "push-events");
        assert!(mapping.reports_failures && mapping.bisects);
        assert_eq!(mapping.filters.len(), 1);
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

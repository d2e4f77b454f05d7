//! The secret in AWS Secrets Manager (`JWT_SECRET_ARN`).
//!
//! The secret is not in the environment of the function, because everybody who may read the configuration of a
//! function could read it there, also in old versions. The function reads it with its own role.
//!
//! A rotation needs no deployment: when a new version becomes current, Secrets Manager keeps the former one as
//! the previous version. Tokens that it has signed are accepted for [`PREVIOUS_LIFETIME`] after the current
//! version was created.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_secretsmanager::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::get_secret_value::{GetSecretValueError, GetSecretValueOutput},
};
use futures_util::future::BoxFuture;

use super::{
    keys::{Problem, VerificationKey, check_not_development_secret},
    log,
    refresh::KeySource,
    with_causes,
};
use crate::{aws::AwsConfig, domain::Timestamp, error::ConfigError};

const VARIABLE: &str = "JWT_SECRET_ARN";
/// How long the previous version is accepted after the current one was created.
const PREVIOUS_LIFETIME: Duration = Duration::from_hours(24);
/// The maximum time to read the previous version. It is less than the time of a refresh.
const PREVIOUS_TIMEOUT: Duration = Duration::from_millis(500);
/// The stages of the two versions.
const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";

/// Reads the current and the previous version of a secret.
pub(super) struct SecretVersions {
    client: Client,
    /// The name or the ARN of the secret.
    id: String,
    /// The current version, as it was read last, with the id of the version.
    last_current: Mutex<Option<(Option<String>, VerificationKey)>>,
}

impl SecretVersions {
    /// The client neither retries nor limits the time of a request; the caller does (`refresh.rs`).
    pub fn new(aws: &AwsConfig, id: String) -> Result<Self, ConfigError> {
        let config = aws.for_service("Secrets Manager", "AWS_ENDPOINT_URL_SECRETS_MANAGER")?;
        Ok(Self {
            client: Client::new(&config),
            id,
            last_current: Mutex::default(),
        })
    }

    async fn read_keys(&self, now: Timestamp) -> Result<Vec<VerificationKey>, String> {
        let current = self.read(CURRENT).await?;
        let current = current.ok_or(
            "names a secret that does not exist in this account and region, or that has no value",
        )?;
        let key = key(&current)
            .map_err(|problem| format!("names a secret whose current version {problem}"))?;
        let version = current.version_id().map(str::to_owned);
        let last = self.replace_last(version.clone(), key.clone());
        let mut keys = vec![key];
        // Without the time of creation, there is no previous version.
        let previous_expires_at = created_at(&current).map(|time| time + PREVIOUS_LIFETIME);
        if let Some(expires_at) = previous_expires_at.filter(|expires_at| now < *expires_at) {
            match self.read_previous().await {
                Ok(Some(key)) => keys.push(key.expiring_at(expires_at)),
                Ok(None) => {}
                // A rotation must be able to replace a secret that is not usable, and the new version must not
                // wait for the old one, which this process knows if it has lived longer.
                Err(problem) => {
                    log::ignored_previous_secret(now, VARIABLE, &problem);
                    let former = last.filter(|(last, _)| *last != version);
                    keys.extend(former.map(|(_, key)| key.expiring_at(expires_at)));
                }
            }
        }
        Ok(keys)
    }

    /// Reads the previous version, if there is one.
    async fn read_previous(&self) -> Result<Option<VerificationKey>, String> {
        let read = tokio::time::timeout(PREVIOUS_TIMEOUT, self.read(PREVIOUS)).await;
        let previous = read.map_err(|_| format!("no response within {PREVIOUS_TIMEOUT:?}"))??;
        let key = previous.map(|version| key(&version)).transpose();
        key.map_err(str::to_owned)
    }

    fn replace_last(
        &self,
        version: Option<String>,
        key: VerificationKey,
    ) -> Option<(Option<String>, VerificationKey)> {
        let mut last = self
            .last_current
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.replace((version, key))
    }

    /// Reads a version. Returns `None` if it does not exist.
    async fn read(&self, stage: &str) -> Result<Option<GetSecretValueOutput>, String> {
        let request = self.client.get_secret_value().secret_id(&self.id);
        match request.version_stage(stage).send().await {
            Ok(version) => Ok(Some(version)),
            Err(SdkError::ServiceError(error)) if error.err().is_resource_not_found_exception() => {
                Ok(None)
            }
            Err(error) => Err(format!(
                "names a secret that cannot be read: {}",
                cause(&error)
            )),
        }
    }
}

impl KeySource for SecretVersions {
    fn variable(&self) -> &'static str {
        VARIABLE
    }

    fn fetch(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<VerificationKey>, String>> {
        Box::pin(self.read_keys(now))
    }
}

fn key(version: &GetSecretValueOutput) -> Result<VerificationKey, Problem> {
    let secret = version
        .secret_string()
        .ok_or("is binary (`SecretBinary`); store it as text (`SecretString`)")?;
    check_not_development_secret(secret)?;
    VerificationKey::from_secret(secret)
}

fn created_at(version: &GetSecretValueOutput) -> Option<Timestamp> {
    let millis = version.created_date()?.to_millis().ok()?;
    Some(Timestamp::from_millis(u64::try_from(millis).ok()?))
}

/// The cause of an error, on one line. A response that cannot be parsed is left out, because it could contain
/// the secret.
fn cause(error: &SdkError<GetSecretValueError>) -> String {
    match error {
        SdkError::ServiceError(error) => {
            let error = error.err();
            let (code, message) = (error.code(), error.message());
            let cause = format!(
                "{}: {}",
                code.unwrap_or("an error without a code"),
                message.unwrap_or("no message")
            );
            cause.replace(char::is_control, " ")
        }
        SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) => with_causes(error),
        _ => "the response cannot be read".to_owned(),
    }
}

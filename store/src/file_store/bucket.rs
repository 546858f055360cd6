//! A bucket as a setting: `s3://bucket/prefix`, and what AWS's own tools read from the environment.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};

use super::objects::Objects;
use crate::StoreError;

/// What is expected.
const EXPECTED: &str = "expected s3://bucket or s3://bucket/prefix";

/// How long a request is tried again while the object store is away.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A place in an object store that speaks S3.
#[derive(Clone, PartialEq, Eq)]
pub struct Bucket {
    name: String,
    prefix: String,
    /// Names in lower case (`aws_region`, …), secrets among them.
    options: Vec<(String, String)>,
}

/// Why a text names no bucket that can be used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadBucket(String);

impl Bucket {
    /// Whether a text means a bucket rather than a folder.
    pub fn is_meant(text: &str) -> bool {
        text.split_once("://").is_some()
    }

    /// Reads `s3://bucket/prefix`. `options` are variables as AWS names them (`AWS_ACCESS_KEY_ID`, `AWS_REGION`,
    /// `AWS_ENDPOINT_URL`, …), with their values; those that mean nothing to the store are passed over.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(
        text: &str,
        options: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, BadBucket> {
        let rest = text.strip_prefix("s3://");
        let rest = rest.ok_or_else(|| BadBucket(format!("{EXPECTED}, found {text:?}")))?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(BadBucket(format!(
                "{name:?} is no name of a bucket: {EXPECTED}"
            )));
        }
        if prefix.contains(['?', '#']) {
            return Err(BadBucket(format!(
                "the prefix {prefix:?} has a ? or #: {EXPECTED}"
            )));
        }
        let options = options
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .filter(|(_, value)| !value.is_empty());
        let bucket = Self {
            name: name.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            options: options.collect(),
        };
        bucket.check()?;
        Ok(bucket)
    }
}

impl Bucket {
    fn builder(&self) -> AmazonS3Builder {
        let mut builder = AmazonS3Builder::new().with_bucket_name(&self.name);
        for (name, value) in &self.options {
            let Ok(key) = name.parse::<AmazonS3ConfigKey>() else {
                continue;
            };
            // Who names an endpoint without TLS means it.
            if matches!(
                key,
                AmazonS3ConfigKey::Endpoint | AmazonS3ConfigKey::S3Endpoint
            ) && value.starts_with("http://")
            {
                let allowed = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);
                builder = builder.with_config(allowed, "true");
            }
            builder = builder.with_config(key, value);
        }
        builder.with_retry(RetryConfig {
            retry_timeout: PATIENCE,
            // The time is the limit, not their number.
            max_retries: usize::MAX,
            backoff: BackoffConfig {
                max_backoff: LONGEST_PAUSE,
                ..BackoffConfig::default()
            },
        })
    }

    fn check(&self) -> Result<(), BadBucket> {
        use_ring();
        match self.builder().build() {
            Ok(_) => Ok(()),
            Err(error) => Err(BadBucket(format!("{self}: {error}"))),
        }
    }

    pub(super) fn open(&self) -> Result<Objects, StoreError> {
        use_ring();
        let store = self.builder().build().map_err(|error| StoreError::Object {
            attempt: "opening",
            object: self.to_string(),
            reason: error.to_string(),
        })?;
        Objects::new(Arc::new(store), &self.prefix, self.to_string())
    }
}

/// The client of the object store takes the cryptography of the process.
fn use_ring() {
    // Another one may be in use already, which is as good.
    let _installed = rustls::crypto::ring::default_provider().install_default();
}

impl fmt::Display for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "s3://{}", self.name)?;
        match self.prefix.as_str() {
            "" => Ok(()),
            prefix => write!(formatter, "/{prefix}"),
        }
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Bucket({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(text: &str) -> Result<Bucket, BadBucket> {
        let options = [
            ("AWS_ACCESS_KEY_ID", "me"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("AWS_PAGER", "less"),
        ];
        Bucket::parse(
            text,
            options.map(|(name, value)| (name.into(), value.into())),
        )
    }

    #[test]
    fn buckets_are_named_with_or_without_a_prefix() {
        for (text, shown) in [
            ("s3://b", "s3://b"),
            ("s3://b/", "s3://b"),
            ("s3://my.b-1/a/b c/", "s3://my.b-1/a/b c"),
        ] {
            let bucket = bucket(text).unwrap();
            assert_eq!(bucket.to_string(), shown);
            assert!(!format!("{bucket:?}").contains("secret"), "{bucket:?}");
        }
    }

    #[test]
    fn what_is_no_bucket_is_refused() {
        for text in [
            "s3://",
            "s3:///x",
            "s3://a b",
            "gs://b",
            "s3://b/x?y=1",
            "/a",
        ] {
            let error = bucket(text).unwrap_err().to_string();
            assert!(error.contains(EXPECTED), "{error}");
        }
    }
}

//! The settings of who may ask, and what may be asked: tokens, hosts, origins, addresses.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use runner_fetch::AddressPolicy;
use runner_server::auth::{AuthConfig, KeyConfig, Mode};
use runner_server::{Hosts, Origins};
use url::Url;

use super::sources::{Origin, Sources};
use super::{parsed, seconds};

/// Clocks that differ by more than this are wrong.
const MAX_LEEWAY: Duration = Duration::from_secs(600);

/// The ways to say with what tokens are checked.
const KEYS: [&str; 3] = ["AUTH_SECRET", "AUTH_PUBLIC_KEY", "AUTH_JWKS_URL"];

/// Whether and how tokens are checked.
pub(super) fn auth(sources: &Sources) -> anyhow::Result<AuthConfig> {
    let given = |name: &str| sources.get(name).filter(|text| !text.trim().is_empty());
    let mode = match sources.text("AUTH").as_str() {
        "off" => Mode::Off,
        "optional" => Mode::Optional,
        "required" => Mode::Required,
        other => bail!(
            "AUTH is {other:?}; expected off, optional or required ({})",
            sources.origin("AUTH")
        ),
    };
    let keys: Vec<&str> = KEYS
        .into_iter()
        .filter(|name| given(name).is_some())
        .collect();
    let key = match (mode, keys.as_slice()) {
        (Mode::Off, []) => None,
        (Mode::Off, [first, ..]) if sources.origin("AUTH") == Origin::Default => bail!(
            "{first} is set ({}), and AUTH is not: set AUTH=required, AUTH=optional, or AUTH=off to have no \
             tokens checked",
            sources.origin(first)
        ),
        (Mode::Off, _) => None,
        (_, []) => bail!(
            "AUTH is {:?} ({}), and there is nothing to check tokens with; expected one of {}",
            sources.text("AUTH"),
            sources.origin("AUTH"),
            KEYS.join(", ")
        ),
        (_, [name]) => Some(key(sources, name)?),
        (_, [first, second, ..]) => bail!(
            "{first} ({}) and {second} ({}) are both set; expected one of {}",
            sources.origin(first),
            sources.origin(second),
            KEYS.join(", ")
        ),
    };
    let leeway = seconds(sources, "AUTH_LEEWAY")?;
    if leeway > MAX_LEEWAY {
        bail!(
            "AUTH_LEEWAY is {} s ({}); expected 0 to {}",
            leeway.as_secs_f64(),
            sources.origin("AUTH_LEEWAY"),
            MAX_LEEWAY.as_secs()
        );
    }
    let roles_claim = sources.text("AUTH_ROLES_CLAIM");
    if roles_claim.trim().is_empty() {
        bail!(
            "AUTH_ROLES_CLAIM is empty ({}); expected the name of a claim, such as roles or realm_access.roles",
            sources.origin("AUTH_ROLES_CLAIM")
        );
    }
    Ok(AuthConfig {
        mode,
        key,
        issuer: given("AUTH_ISSUER"),
        audience: given("AUTH_AUDIENCE"),
        roles_claim,
        leeway,
    })
}

fn key(sources: &Sources, name: &str) -> anyhow::Result<KeyConfig> {
    let value = sources.text(name);
    Ok(match name {
        "AUTH_SECRET" => KeyConfig::Secret(value),
        "AUTH_JWKS_URL" => KeyConfig::Jwks(value),
        _ if value.contains("-----BEGIN") => KeyConfig::PublicKey(value.replace("\\n", "\n")),
        _ => {
            let read = std::fs::read_to_string(value.trim());
            KeyConfig::PublicKey(read.with_context(|| {
                format!(
                    "{name} is {value:?} ({}), which is no PEM and no file that can be read",
                    sources.origin(name)
                )
            })?)
        }
    })
}

/// What the user should know about tokens that are accepted.
pub(crate) fn notice(auth: &AuthConfig) -> Option<String> {
    let is_shared = matches!(auth.key, Some(KeyConfig::PublicKey(_) | KeyConfig::Jwks(_)));
    let is_for_all = auth.mode != Mode::Off && is_shared && auth.audience.is_none();
    is_for_all.then(|| {
        "AUTH_AUDIENCE is not set: tokens that the issuer made for other services are accepted, too".to_owned()
    })
}

/// Refuses to be open to others by oversight; the error says what to do.
pub(super) fn check_open(sources: &Sources, host: IpAddr, mode: Mode) -> Result<(), String> {
    if host.is_loopback() || mode != Mode::Off || sources.origin("AUTH") != Origin::Default {
        return Ok(());
    }
    Err(format!(
        "RUNNER_HOST is {host} ({}), which others can reach, and AUTH is not set: anybody could run plugins and \
         read all results. Set AUTH=required and one of {} (docs/authentication.md), or AUTH=off if that is what \
         you want",
        sources.origin("RUNNER_HOST"),
        KEYS.join(", ")
    ))
}

/// The URL by which the runner is known where no request tells it; without a slash at its end.
pub(super) fn public_url(sources: &Sources) -> anyhow::Result<Option<String>> {
    let Some(text) = sources.get("PUBLIC_URL").filter(|url| !url.is_empty()) else {
        let name = sources.get("SERVER_NAME").filter(|name| !name.is_empty());
        return Ok(name.map(|name| format!("http://{name}")));
    };
    let problem = || {
        format!(
            "PUBLIC_URL is {text:?} ({}); expected one such as https://example.org/runner",
            sources.origin("PUBLIC_URL")
        )
    };
    let url = Url::parse(&text).with_context(problem)?;
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_plain {
        bail!(problem());
    }
    Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
}

/// Which hosts requests may be made to.
pub(super) fn hosts(sources: &Sources, public_url: Option<&str>) -> anyhow::Result<Hosts> {
    let mut known: Vec<String> = sources
        .get("SERVER_NAME")
        .into_iter()
        .filter(|name| !name.is_empty())
        .collect();
    let of_url = public_url.and_then(|url| url.split("://").nth(1)?.split('/').next());
    known.extend(of_url.map(str::to_owned));
    let listed = sources.text("ALLOWED_HOSTS");
    Hosts::new(known, &listed)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("ALLOWED_HOSTS ({})", sources.origin("ALLOWED_HOSTS")))
}

/// Which origins may read answers.
pub(super) fn origins(sources: &Sources) -> anyhow::Result<Origins> {
    Origins::new(&sources.text("CORS_ORIGINS"))
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("CORS_ORIGINS ({})", sources.origin("CORS_ORIGINS")))
}

/// Which addresses the runner connects to for others. Who needs a token is not trusted as much as who sits at
/// the same machine.
pub(super) fn addresses(sources: &Sources, mode: Mode) -> anyhow::Result<AddressPolicy> {
    let policy = match mode {
        Mode::Required => AddressPolicy::default().without_private(),
        Mode::Off | Mode::Optional => AddressPolicy::default(),
    };
    policy
        .with_exceptions(&sources.text("ALLOWED_NETWORKS"))
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("ALLOWED_NETWORKS ({})", sources.origin("ALLOWED_NETWORKS")))
}

/// The limits of what comes in.
pub(super) fn limits(sources: &Sources) -> anyhow::Result<runner_server::Limits> {
    let positive = |name: &str| -> anyhow::Result<Duration> {
        let time = seconds(sources, name)?;
        if time.is_zero() {
            bail!("{name} is 0 s ({}); expected more", sources.origin(name));
        }
        Ok(time)
    };
    let requests: usize = parsed(sources, "MAX_REQUESTS")?;
    let head: usize = parsed(sources, "MAX_HEAD_SIZE")?;
    if requests == 0 {
        bail!(
            "MAX_REQUESTS is 0 ({}); expected 1 or more",
            sources.origin("MAX_REQUESTS")
        );
    }
    if head < runner_server::MIN_HEAD {
        bail!(
            "MAX_HEAD_SIZE is {head} ({}); expected {} or more",
            sources.origin("MAX_HEAD_SIZE"),
            runner_server::MIN_HEAD
        );
    }
    Ok(runner_server::Limits {
        client: positive("CLIENT_TIMEOUT")?,
        upload: positive("UPLOAD_TIMEOUT")?,
        requests,
        head,
    })
}

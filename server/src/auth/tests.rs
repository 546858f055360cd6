//! Tokens of every kind that is right, and of every kind that is wrong.

use super::*;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use runner_fetch::FetchConfig;
use serde_json::{Value, json};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A key whose private part nobody has.
const RSA_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA2IYpgGVv4Tr5/UEGcd5G\n\
shHbNYG1N0x0y7fe9TTHLMQpZswddrxYLk1Swt8EEr2O7v5kMpO4bdP9YAM5waAW\n\
4Exi65wpzXKe462B2SmwwKf9Uhs+IsCOch5A15jakAmZDHLGbO90UBQGqVGgwWZP\n\
Ib/24dH3Twnx7Liqe5L/ohS2ScI6yBPUyKtwjEEtFeW2M/X24tL4rjkUWbWvCpUm\n\
QuT3EiUtm2FJOKItRjRLo7Iu/oo9swovc5vtOLlbpFCbmaGQKWwt16v7U+VVfJNb\n\
5wuez37VerJTklkM653+xF5tEvRTvB4oJievRX2/dowdXYBeim3eMM9tKaZAbqzc\n\
XwIDAQAB\n\
-----END PUBLIC KEY-----\n";
/// Its modulus.
const RSA_N: &str = concat!(
    "2IYpgGVv4Tr5_UEGcd5GshHbNYG1N0x0y7fe9TTHLMQpZswddrxYLk1Swt8EEr2O7v5kMpO4bdP9YAM5waAW4Exi65",
    "wpzXKe462B2SmwwKf9Uhs-IsCOch5A15jakAmZDHLGbO90UBQGqVGgwWZPIb_24dH3Twnx7Liqe5L_ohS2ScI6yBPU",
    "yKtwjEEtFeW2M_X24tL4rjkUWbWvCpUmQuT3EiUtm2FJOKItRjRLo7Iu_oo9swovc5vtOLlbpFCbmaGQKWwt16v7U-",
    "VVfJNb5wuez37VerJTklkM653-xF5tEvRTvB4oJievRX2_dowdXYBeim3eMM9tKaZAbqzcXw",
);
/// Of a user `me`, signed with it, until the year 2100.
const RSA_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InJzYSJ9.eyJzdWIiOiJtZSIsImV4cCI6NDEwMjQ0NDgwM",
    "Cwicm9sZXMiOlsidXNlciJdfQ.URdx3ugXrBmLFslBlLTwqeF96zcfhz5409iPv6SHunIroS-D9ic6h4thbbIcoeoS",
    "0IKQ2T4fgjc6KvpWHo0djvVNrrQOljZJ1IMmigk_r8L2WRfZIlr0jCnMMR7XytitmXlf8ojJ9LcBgFh_PZvSohegt2",
    "icny-3Na9hJI3nkLcSL_gLtjxxnCCgjxgo8FfNIcN4zrgv30WTviFpIaO5fayR9R6Pnfk9c2y3qymHhmtO14r7Vahj",
    "Hqx3GNXIvup1yrPkzdQUXFakDGgqJobuS5UWcV-QXdbcc2Q0nVonCLFpguaMil-AhJYZlZBq3Q7xzgROyqee2YQTzh",
    "T6TFv38Q",
);

/// What comes before the key itself in the DER of a public key.
const P256_PREFIX: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
const ED_PREFIX: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

fn config(mode: Mode, key: KeyConfig) -> AuthConfig {
    AuthConfig {
        mode,
        key: Some(key),
        roles_claim: "roles".to_owned(),
        leeway: Duration::from_secs(5),
        ..AuthConfig::default()
    }
}

fn auth(config: AuthConfig) -> Result<Auth, AuthError> {
    Auth::new(config, Fetcher::new(FetchConfig::default()).unwrap())
}

fn with_secret() -> Auth {
    auth(config(Mode::Required, KeyConfig::Secret(SECRET.to_owned()))).unwrap()
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!(
        "{}.{}",
        base64(header.to_string()),
        base64(claims.to_string())
    );
    let signature = base64(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256(secret: &str) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    move |message| ring::hmac::sign(&key, message).as_ref().to_vec()
}

fn claims(more: Value) -> Value {
    let mut claims = json!({"sub": "me", "exp": now() + 100, "roles": ["user"]});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn signed(more: Value) -> String {
    token(&json!({"alg": "HS256"}), &claims(more), hs256(SECRET))
}

fn user() -> Caller {
    Caller {
        subject: Some("me".into()),
        access: Access::User,
        is_known: true,
    }
}

fn pem(prefix: &[u8], key: &[u8]) -> String {
    let der = STANDARD.encode([prefix, key].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
}

async fn refused(auth: &Auth, token: &str) -> String {
    match auth.bearer(token).await.unwrap_err() {
        Refused::Invalid(problem) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_right_token_tells_who_asks() {
    let auth = with_secret();
    assert_eq!(auth.bearer(&signed(json!({}))).await, Ok(user()));
    // The second time it is known.
    assert_eq!(auth.bearer(&signed(json!({}))).await, Ok(user()));
    let nobody = signed(json!({"sub": null, "roles": ["stranger"]}));
    let caller = auth.bearer(&nobody).await.unwrap();
    assert_eq!((caller.subject, caller.access), (None, Access::Public));
    // Clocks may differ a little.
    let late = signed(json!({"exp": now() - 3, "nbf": now() + 3}));
    assert_eq!(auth.bearer(&late).await, Ok(user()));
}

#[tokio::test]
async fn every_wrong_token_is_refused_with_what_is_wrong() {
    let auth = with_secret();
    let right = signed(json!({}));
    let (message, signature) = right.rsplit_once('.').unwrap();
    let hs512 = |message: &[u8]| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA512, SECRET.as_bytes());
        ring::hmac::sign(&key, message).as_ref().to_vec()
    };
    let with = |algorithm: &str, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        token(&json!({"alg": algorithm}), &claims(json!({})), sign)
    };
    let unsigned = |_: &[u8]| Vec::new();
    let other = "another secret that is long enough";
    let text = |claims: &str| {
        let message = format!("{}.{}", base64("{\"alg\":\"HS256\"}"), base64(claims));
        format!("{message}.{}", base64(hs256(SECRET)(message.as_bytes())))
    };
    for (wrong, problem) in [
        (signed(json!({"exp": now() - 100})), "has expired"),
        (signed(json!({"exp": 0})), "has expired"),
        (signed(json!({"nbf": now() + 100})), "not valid yet"),
        (signed(json!({"exp": null})), "does not say \"exp\""),
        (signed(json!({"exp": "tomorrow"})), "\"exp\""),
        (signed(json!({"exp": -1})), "\"exp\""),
        (signed(json!({"nbf": {}})), "\"nbf\" is not understood"),
        (with("HS512", &hs512), "not signed with HS256"),
        (with("HS256", &hs512), "signature of the token is wrong"),
        (
            with("HS256", &hs256(other)),
            "signature of the token is wrong",
        ),
        (with("none", &unsigned), "no JSON Web Token"),
        (with("None", &unsigned), "no JSON Web Token"),
        (with("HS256", &unsigned), "signature of the token is wrong"),
        (RSA_TOKEN.to_owned(), "not signed with HS256"),
        (message.to_owned(), "no JSON Web Token"),
        (format!("{message}."), "signature of the token is wrong"),
        (right[..right.len() / 2].to_owned(), "no JSON Web Token"),
        (right[..right.len() - 4].to_owned(), "oken"),
        (format!("{right}.{signature}"), "no JSON Web Token"),
        (format!("{message}.*"), "no JSON Web Token"),
        (text("[]"), "no JSON Web Token"),
        (text("{"), "no JSON Web Token"),
        (text("\u{fffd}"), "no JSON Web Token"),
        ("a".repeat(1 << 20), "1048576 bytes; the limit is 16384"),
        (
            signed(json!({"long": "x".repeat(1 << 20)})),
            "the limit is 16384",
        ),
        ("..".to_owned(), "no JSON Web Token"),
        ("".to_owned(), "no JSON Web Token"),
        ("ü.ü.ü".to_owned(), "no JSON Web Token"),
    ] {
        let found = refused(&auth, &wrong).await;
        assert!(found.contains(problem), "{:.200}: {found}", wrong);
        // Nor is it believed afterwards.
        assert!(auth.bearer(&wrong).await.is_err());
    }
}

#[tokio::test]
async fn issuer_and_audience_are_checked_where_they_are_set() {
    let mut config = config(Mode::Required, KeyConfig::Secret(SECRET.to_owned()));
    config.issuer = Some("https://id.example.org".to_owned());
    config.audience = Some("runner".to_owned());
    let auth = auth(config).unwrap();
    let iss = "https://id.example.org";
    for aud in [json!("runner"), json!(["other", "runner"])] {
        let right = signed(json!({"iss": iss, "aud": aud}));
        assert_eq!(auth.bearer(&right).await, Ok(user()));
    }
    for (wrong, problem) in [
        (json!({"iss": iss, "aud": "other"}), "another audience"),
        (json!({"iss": iss, "aud": []}), "audience"),
        (json!({"iss": iss, "aud": 1}), "\"aud\""),
        (json!({"iss": iss}), "does not say \"aud\""),
        (
            json!({"iss": "https://evil.org", "aud": "runner"}),
            "another issuer",
        ),
        (json!({"aud": "runner"}), "does not say \"iss\""),
    ] {
        let found = refused(&auth, &signed(wrong.clone())).await;
        assert!(found.contains(problem), "{wrong}: {found}");
    }
}

#[tokio::test]
async fn the_kind_of_a_public_key_decides_the_algorithm() {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let curve =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
            .unwrap();
    let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let edwards = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    let curve_pem = pem(P256_PREFIX, curve.public_key().as_ref());
    let edwards_pem = pem(ED_PREFIX, edwards.public_key().as_ref());
    let es256 = token(&json!({"alg": "ES256"}), &claims(json!({})), |message| {
        curve.sign(&random, message).unwrap().as_ref().to_vec()
    });
    let eddsa = token(&json!({"alg": "EdDSA"}), &claims(json!({})), |message| {
        edwards.sign(message).as_ref().to_vec()
    });
    let tokens = [RSA_TOKEN, &es256, &eddsa];
    for (key, pem) in [RSA_PEM, &curve_pem, &edwards_pem].into_iter().enumerate() {
        let auth = auth(config(Mode::Required, KeyConfig::PublicKey(pem.to_owned()))).unwrap();
        for (number, token) in tokens.into_iter().enumerate() {
            match number == key {
                true => assert_eq!(auth.bearer(token).await, Ok(user())),
                false => assert!(refused(&auth, token).await.contains("not signed with")),
            }
        }
        // The public key is no secret: tokens that are signed with it as one are not believed.
        let confused = token(&json!({"alg": "HS256"}), &claims(json!({})), hs256(pem));
        assert!(refused(&auth, &confused).await.contains("not signed with"));
        let cut = &tokens[key][..tokens[key].len() - 8];
        assert!(auth.bearer(cut).await.is_err());
    }
}

#[test]
fn keys_that_are_none_are_told() {
    let public = |pem: &str| KeyConfig::PublicKey(pem.to_owned());
    for (key, problem) in [
        (
            KeyConfig::Secret("short".to_owned()),
            "has 5 bytes; expected at least 32",
        ),
        (
            public("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----"),
            "private key",
        ),
        (public("nonsense"), "expected PEM"),
        (
            public("-----BEGIN PUBLIC KEY-----\nnonsense"),
            "expected an RSA",
        ),
        (public(&pem(b"\x30", b"\x00")), "expected an RSA"),
        (
            KeyConfig::Jwks("nonsense".to_owned()),
            "expected one such as",
        ),
        (
            KeyConfig::Jwks("file:///etc/keys".to_owned()),
            "expected https",
        ),
    ] {
        let error = auth(config(Mode::Required, key)).err().unwrap().to_string();
        assert!(error.contains(problem), "{error}");
    }
    let none = AuthConfig {
        mode: Mode::Required,
        ..AuthConfig::default()
    };
    assert!(matches!(auth(none), Err(AuthError::NoKey)));
}

#[tokio::test]
async fn where_tokens_are_optional_they_take_nothing_away() {
    let auth = auth(config(Mode::Optional, KeyConfig::Secret(SECRET.to_owned()))).unwrap();
    assert_eq!(auth.anonymous().access, Access::User);
    for (role, expected) in [("viewer", Access::User), ("admin", Access::Admin)] {
        let caller = auth
            .bearer(&signed(json!({"roles": [role]})))
            .await
            .unwrap();
        assert_eq!(caller.access, expected);
    }
    assert!(auth.bearer("wrong").await.is_err());
    assert_eq!(with_secret().anonymous().access, Access::Public);
}

#[tokio::test]
async fn our_own_tokens_are_believed() {
    let mut config = config(Mode::Required, KeyConfig::Secret(SECRET.to_owned()));
    config.issuer = Some("us".to_owned());
    config.audience = Some("runner".to_owned());
    for claim in ["roles", "realm_access.roles", "https://example.org/roles"] {
        config.roles_claim = claim.to_owned();
        let token = sign(SECRET, &config, "me", "user", Duration::from_secs(60)).unwrap();
        let auth = auth(config.clone()).unwrap();
        assert_eq!(auth.bearer(&token).await, Ok(user()));
        let token = sign(SECRET, &config, "me", "user", Duration::ZERO).unwrap();
        assert!(auth.bearer(&token).await.is_ok(), "within the leeway");
    }
}

/// A provider of keys, that counts how often it is asked.
#[derive(Clone, Default)]
struct Provider(Arc<(AtomicUsize, Mutex<(u16, String)>)>);

impl Provider {
    /// Publishes, and gives the address.
    async fn start(&self) -> String {
        let answer = async |State(provider): State<Self>| {
            provider.0.0.fetch_add(1, Ordering::Relaxed);
            let (status, body) = provider
                .0
                .1
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            (axum::http::StatusCode::from_u16(status).unwrap(), body)
        };
        let routes = axum::Router::new().route("/keys", axum::routing::get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = routes.with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, service).await });
        format!("http://{address}/keys")
    }

    fn publishes(&self, status: u16, body: impl ToString) {
        *self.0.1.lock().unwrap() = (status, body.to_string());
    }

    fn asked(&self) -> usize {
        self.0.0.load(Ordering::Relaxed)
    }
}

fn key_set(names: &[&str]) -> Value {
    let key = |name: &&str| json!({"kty": "RSA", "kid": name, "n": RSA_N, "e": "AQAB"});
    json!({"keys": names.iter().map(key).collect::<Vec<_>>()})
}

#[tokio::test]
async fn published_keys_are_fetched_once_and_again_for_unknown_ones() {
    let provider = Provider::default();
    provider.publishes(200, key_set(&["old", "rsa"]));
    let url = provider.start().await;
    let auth = auth(config(Mode::Required, KeyConfig::Jwks(url))).unwrap();
    for _ in 0..3 {
        assert_eq!(auth.bearer(RSA_TOKEN).await, Ok(user()));
    }
    assert_eq!(provider.asked(), 1);
    // However many unknown keys are named, the provider is not asked again at once.
    for name in 0..20 {
        let header = json!({"alg": "RS256", "kid": name.to_string()});
        let unknown = token(&header, &claims(json!({})), |_| vec![0; 256]);
        assert!(refused(&auth, &unknown).await.contains("does not publish"));
    }
    assert_eq!(provider.asked(), 1);
    let nameless = token(&json!({"alg": "RS256"}), &claims(json!({})), |_| {
        vec![0; 256]
    });
    assert!(refused(&auth, &nameless).await.contains("`kid`"));
    let confused = json!({"alg": "HS256", "kid": "rsa"});
    let confused = token(&confused, &claims(json!({})), hs256(RSA_N));
    assert!(
        refused(&auth, &confused)
            .await
            .contains("not signed with RS256")
    );
}

#[tokio::test]
async fn keys_that_are_not_there_are_told_and_do_not_panic() {
    let huge = format!("{{\"keys\": [\"{}\"]}}", "x".repeat(1 << 20));
    for (status, body, problem) in [
        (500, "broken".to_owned(), "answered 500"),
        (404, String::new(), "answered 404"),
        (200, "<html>".to_owned(), "no JSON"),
        (200, String::new(), "no JSON"),
        (200, "{\"keys\": []}".to_owned(), "none of the 0 keys"),
        (200, huge, "limit of 262144 bytes"),
    ] {
        let provider = Provider::default();
        provider.publishes(status, body);
        let url = provider.start().await;
        let auth = auth(config(Mode::Required, KeyConfig::Jwks(url))).unwrap();
        for _ in 0..2 {
            let Err(Refused::NoKeys(found)) = auth.bearer(RSA_TOKEN).await else {
                panic!("{problem}");
            };
            assert!(found.contains(problem), "{found}");
        }
        assert_eq!(provider.asked(), 1);
    }
    let nobody = "http://127.0.0.1:1/keys".to_owned();
    let auth = auth(config(Mode::Required, KeyConfig::Jwks(nobody))).unwrap();
    assert!(matches!(
        auth.bearer(RSA_TOKEN).await,
        Err(Refused::NoKeys(_))
    ));
    // What is no token needs no keys to be refused.
    assert!(
        refused(&auth, "nonsense")
            .await
            .contains("no JSON Web Token")
    );
}

#[tokio::test]
async fn keys_come_back_and_old_ones_go() {
    let provider = Provider::default();
    provider.publishes(503, "");
    let url = provider.start().await;
    let auth = auth(config(Mode::Required, KeyConfig::Jwks(url))).unwrap();
    assert!(auth.bearer(RSA_TOKEN).await.is_err());
    let Some(Keys::Published(published)) = &auth.0.keys else {
        panic!("published keys");
    };
    provider.publishes(200, key_set(&["rsa"]));
    published.forget_attempt().await;
    assert_eq!(auth.bearer(RSA_TOKEN).await, Ok(user()));
    // A token that is known is checked again when the keys have changed.
    provider.publishes(200, key_set(&["new"]));
    published.forget_attempt().await;
    published.refresh().await.unwrap();
    assert!(refused(&auth, RSA_TOKEN).await.contains("does not publish"));
}

//! Who may ask for what: every route declares its rule, and here it is applied.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION};
use axum::middleware::Next;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::{Caller, Mode, Refused};
use crate::error::ApiError;
use crate::token;

/// What a request must be allowed to. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Access {
    /// Nothing: what needs no protection, or has one of its own, such as the tag of a file.
    Public,
    /// To see what there is and what became of it.
    Viewer,
    /// To run plugins, and to change tasks.
    User,
    /// To run code that comes with the request: for users that are known. Where nobody is, the token of the
    /// installation is to be shown.
    Author,
    /// To see and change the installation.
    Admin,
}

impl Access {
    /// The name of the role that has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Viewer => "viewer",
            Self::User | Self::Author => "user",
            Self::Admin => "admin",
        }
    }
}

/// The rules of one path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    methods: Vec<(Method, Access)>,
    others: Option<Access>,
}

impl Rules {
    /// What a method needs; HEAD needs what GET does.
    pub(crate) fn add(&mut self, method: Method, access: Access) {
        self.methods.push((method, access));
    }

    /// What all methods need that were not added.
    pub(crate) fn others(&mut self, access: Access) {
        self.others = Some(access);
    }

    /// Whether some method is closed also where nobody is asked who he is.
    pub(crate) fn are_closed(&self) -> bool {
        let mut all = self
            .methods
            .iter()
            .map(|(_, access)| *access)
            .chain(self.others);
        all.any(|access| access >= Access::Author)
    }

    /// What a request with this method needs. None where nothing answers it.
    pub(crate) fn of(&self, method: &Method) -> Option<Access> {
        let asked = match *method {
            Method::HEAD => &Method::GET,
            _ => method,
        };
        let found = self.methods.iter().find(|(method, _)| method == asked);
        found.map(|(_, access)| *access).or(self.others)
    }
}

/// Lets a request pass that may do what it asks for.
pub(crate) async fn guard(
    State((app, rules)): State<(App, Arc<Rules>)>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // A browser asks before it asks, and cannot say who it is.
    let is_preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let needed = match is_preflight {
        true => None,
        false => rules.of(request.method()),
    };
    let Some(needed) = needed else {
        return Ok(next.run(request).await);
    };
    // What everybody may see may have parameters of this name.
    let is_certain = needed != Access::Public || request.headers().contains_key(AUTHORIZATION);
    let shown = token::shown(&request);
    let caller = match identify(&app, shown.as_deref(), needed).await {
        Err(_) if !is_certain => app.0.config.auth.anonymous(),
        caller => caller?,
    };
    let is_stranger = needed == Access::Author && !caller.is_known;
    let least = match needed {
        Access::Author => Access::User,
        needed => needed,
    };
    if caller.access < least || is_stranger {
        return Err(match caller.is_known {
            true => ApiError::forbidden(needed, caller.access),
            false => ApiError::unauthorized(app.0.config.auth.mode(), None),
        });
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Who shows this token, or none.
async fn identify(app: &App, token: Option<&str>, needed: Access) -> Result<Caller, ApiError> {
    let auth = &app.0.config.auth;
    let Some(token) = token else {
        return Ok(auth.anonymous());
    };
    if token::is_of_installation(app, token) {
        return Ok(Caller::OWNER);
    }
    if auth.mode() == Mode::Off {
        // It may be for a plugin.
        return match needed {
            Access::Author | Access::Admin => Err(ApiError::unauthorized(
                Mode::Off,
                Some("It is not the token of this installation."),
            )),
            _ => Ok(auth.anonymous()),
        };
    }
    auth.bearer(token).await.map_err(|refused| match refused {
        Refused::Invalid(problem) => ApiError::unauthorized(auth.mode(), Some(&problem)),
        Refused::NoKeys(_) => ApiError::busy(
            "The keys to check tokens with cannot be fetched; the log of the runner says why. Try again in a \
             moment.",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_includes_those_before_it() {
        assert!(Access::Admin > Access::User);
        assert!(Access::User > Access::Viewer);
        assert!(Access::Viewer > Access::Public);
    }

    #[test]
    fn a_method_has_its_own_rule_or_that_of_the_others() {
        let mut rules = Rules::default();
        rules.add(Method::GET, Access::Viewer);
        assert_eq!(rules.of(&Method::HEAD), Some(Access::Viewer));
        assert_eq!(rules.of(&Method::POST), None);
        rules.others(Access::User);
        assert_eq!(rules.of(&Method::GET), Some(Access::Viewer));
        assert_eq!(rules.of(&Method::POST), Some(Access::User));
        assert!(!rules.are_closed());
        rules.add(Method::DELETE, Access::Admin);
        assert!(rules.are_closed());
    }
}

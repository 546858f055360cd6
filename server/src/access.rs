//! Who may ask for what: every route declares its rule, and here it is applied.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::ACCESS_CONTROL_REQUEST_METHOD;
use axum::middleware::Next;
use axum::response::Response;

use crate::app::App;
use crate::error::ApiError;
use crate::token;

/// What a request must be allowed to. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// Nothing: what needs no protection, or has one of its own, such as the tag of a file.
    Public,
    /// To see what there is and what became of it.
    Viewer,
    /// To run plugins, and to change tasks.
    User,
    /// To see and change the installation.
    Admin,
}

impl Access {
    /// The name of the role that has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Viewer => "viewer",
            Self::User => "user",
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
    request: Request,
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
    if needed == Some(Access::Admin) && !token::is_shown(&app, &request) {
        return Err(ApiError::unauthorized());
    }
    Ok(next.run(request).await)
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
    }
}

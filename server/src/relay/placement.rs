//! How each route of kernels is placed where kernels live in other processes: the only table of that.

use axum::http::Method;

/// Where a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// By whichever process got it.
    Local,
    /// Where the session is whose id stands in the path as `{id}`.
    Session,
    /// There; and one that nobody knows begins at a worker with room.
    SessionOrNew,
    /// Where the name for a session is whose id stands in the path as `{id}`.
    Notebook,
    /// At a worker with room: a session begins.
    New,
    /// Where what the body names (`type` and `path`) has its session, or where the session is that it gives
    /// (`kernel.id`); else at a worker with room.
    Named,
    /// At a worker that has the kernelspec in the path, `{name}`.
    Spec,
    /// At all workers; their answers become one.
    All,
    /// Where the session is, or the kernel for cells, whose id stands in the path as `{id}`.
    Output,
    /// Where the kernel for cells is whose id stands in the path as `{id}`; here, if nobody has it.
    Cell,
}

/// How a route is placed, by its path in the table of routes and the method.
pub(crate) fn of(route: &str, method: &Method) -> Placement {
    let is_post = *method == Method::POST;
    match route {
        "/api/kernels" if is_post => Placement::New,
        "/api/kernels" | "/api/kernelspecs" => Placement::All,
        "/api/kernelspecs/{name}" | "/api/kernelspecs/{name}/{file}" => Placement::Spec,
        "/api/kernels/{id}/channels" => Placement::SessionOrNew,
        "/api/sessions" if is_post => Placement::Named,
        "/api/sessions" => Placement::All,
        "/api/kernels/{id}/outputs/{name}" => Placement::Output,
        _ if route.starts_with("/api/kernels/{id}") => Placement::Session,
        _ if route.starts_with("/api/sessions/{id}") => Placement::Notebook,
        // What begins and ends them is understood here.
        _ if route.starts_with("/kernel/{id}/") => Placement::Cell,
        _ => Placement::Local,
    }
}

/// Whether it is placed for some method.
pub(crate) fn is_placed(route: &str) -> bool {
    [Method::GET, Method::POST]
        .iter()
        .any(|method| of(route, method) != Placement::Local)
}

/// Whether a worker answers it for servers.
pub(crate) fn is_of_worker(route: &str) -> bool {
    is_placed(route) || matches!(route, "/kernel" | "/kernel/{id}" | "/service")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_sessions_are_placed_and_no_others() {
        for (route, method, placement) in [
            ("/api", Method::GET, Placement::Local),
            ("/tasks/", Method::POST, Placement::Local),
            ("/api/kernels", Method::GET, Placement::All),
            ("/api/kernels", Method::POST, Placement::New),
            ("/api/kernels/{id}", Method::DELETE, Placement::Session),
            (
                "/api/kernels/{id}/files/{*path}",
                Method::PUT,
                Placement::Session,
            ),
            (
                "/api/kernels/{id}/channels",
                Method::GET,
                Placement::SessionOrNew,
            ),
            ("/api/sessions/{id}", Method::PATCH, Placement::Notebook),
            ("/kernel", Method::POST, Placement::Local),
            ("/kernel/{id}", Method::DELETE, Placement::Local),
            ("/kernel/{id}/channels", Method::GET, Placement::Cell),
            ("/kernel/{id}/files/{*path}", Method::PUT, Placement::Cell),
            (
                "/sockjs/{server}/{session}/websocket",
                Method::GET,
                Placement::Local,
            ),
        ] {
            assert_eq!(of(route, &method), placement, "{method} {route}");
        }
        for route in crate::router::table() {
            let is_own = route.path().starts_with("/api/") && route.path() != "/api";
            assert_eq!(is_placed(route.path()), is_own, "{}", route.path());
        }
    }
}

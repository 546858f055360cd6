//! `/plugins/<identifier>/<task>/<step>-ui/` and `…-process/`: the steps of a task.

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_core::parameters::{FieldErrors, Form};
use runner_core::plugin::FormDescription;
use runner_core::task::{Change, LogWriter, Refused, Step, Task, TaskEvent, TaskState};
use runner_host::Provided;
use runner_queue::Offer;
use runner_store::{PageWrite, WorkerInfo};
use serde_json::{Map, Value};

use super::process::checked;
use super::{path_of, ui};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::body::Sent;
use crate::error::ApiError;
use crate::forms::FormPage;
use crate::router::redirect;
use crate::routes::{Id, commit_then_announce, modules};

/// Task and action in what follows the path of a plugin, if it is the path of a step.
pub(super) fn parse(rest: &str) -> Option<(&str, &str)> {
    let (task, action) = rest.strip_suffix('/').unwrap_or(rest).split_once('/')?;
    let is_number = !task.is_empty() && task.bytes().all(|byte| byte.is_ascii_digit());
    let is_action = action.ends_with("-ui") || action.ends_with("-process");
    (is_number && is_action && !action.contains('/')).then_some((task, action))
}

/// What is answered of a step whose plugin is not there: its task may have begun when it was. Where another version
/// has taken its place everywhere, the task fails with the step that is submitted. Where none has, the plugin may come
/// back, and the task waits on.
pub(super) async fn without_plugin(
    app: &App,
    base: &BaseUrl,
    identifier: &str,
    (task, action): (&str, &str),
    error: ApiError,
) -> Result<Response, ApiError> {
    let Ok(Id(Some(id))) = Id::parse(task) else {
        return Err(error);
    };
    let task = match app.0.store.task(id).await {
        Ok(Some(task)) if task.plugin == identifier && task.state == TaskState::Waiting => task,
        _ => return Err(error),
    };
    let table = app.0.modules.table();
    if table.is_leaving(identifier) {
        return Err(error);
    }
    let name = identifier.split('@').next().unwrap_or(identifier);
    let others = table.plugins().iter().map(|other| &other.plugin.identifier);
    let others: Vec<&str> = others
        .filter(|other| other.split('@').next() == Some(name))
        .map(String::as_str)
        .collect();
    let gone =
        format!("Task {id} began with the plugin {identifier}, which is not loaded any more");
    // In the middle of a change elsewhere there may be both.
    let has_it = |other: &WorkerInfo| other.row.plugins.iter().any(|own| own == identifier);
    if others.is_empty() || modules::others(app).await.iter().any(has_it) {
        let text = format!("{gone}; it can go on when it is again.");
        return Err(ApiError::with(StatusCode::CONFLICT, text));
    }
    let others = others.join(", ");
    if !action.ends_with("-process") {
        let text = format!("{gone}: {others} took its place. Submitting a step ends the task.");
        return Err(ApiError::with(StatusCode::CONFLICT, text));
    }
    let why = format!(
        "{gone}: {others} took its place, and cannot go on with a step of another version."
    );
    give_up(app, task, why).await?;
    Ok(redirect(
        StatusCode::SEE_OTHER,
        &base.path(&format!("/tasks/{id}/")),
    ))
}

/// Fails a task that waits for a step.
async fn give_up(app: &App, mut task: Task, why: String) -> Result<(), ApiError> {
    let expected_version = task.version;
    let events = task
        .apply(Change::GivenUp)
        .map_err(|refused| conflict(&refused))?;
    let mut log = LogWriter::new(task.log_length);
    log.entry(&why);
    let (id, log) = (task.id, log.finish());
    let shared = app.clone();
    let commit = async move {
        let write = PageWrite {
            task: &task,
            expected_version,
            events: &events,
            uploads: &[],
            log: &log,
        };
        match shared.0.store.write_page_with(write).await? {
            true => Ok(()),
            false => Err(changed_meanwhile()),
        }
    };
    let told = app.clone();
    let announce = move |(): &()| told.0.queue.tasks_ended(&[id], &told.0.events);
    commit_then_announce(commit, announce).await
}

fn changed_meanwhile() -> ApiError {
    let message = "The task changed at the same moment; look at it before trying again.";
    ApiError::with(StatusCode::CONFLICT, message)
}

pub(super) async fn answer(
    app: &App,
    base: &BaseUrl,
    provided: Provided,
    task: &str,
    action: &str,
    request: Request,
) -> Result<Response, ApiError> {
    let Id(task) = Id::parse(task)?;
    let (step_id, is_page) = match (action.strip_suffix("-ui"), action.strip_suffix("-process")) {
        (Some(step), _) => (step, true),
        (_, Some(step)) => (step, false),
        _ => return Err(ApiError::not_found()),
    };
    let found = Found::new(app, provided, task, step_id).await?;
    match (is_page, request.method()) {
        (true, &Method::GET | &Method::HEAD) => {
            let (values, errors) = ui::prefilled(&request, &found.form().parameters)?;
            found.page(app, base, values, errors, false)
        }
        (true, &Method::POST) => {
            let (values, errors) = ui::sent(app, request, &found.form().parameters).await?;
            let is_valid = errors.is_empty();
            found.page(app, base, values, errors, is_valid)
        }
        (true, _) => Err(ApiError::method_not_allowed("GET,HEAD,POST")),
        (false, &Method::POST) => found.submit(app, base, request).await,
        (false, _) => Err(ApiError::method_not_allowed("POST")),
    }
}

/// A step of a task, and the plugin that processes it.
struct Found {
    provided: Provided,
    task: Task,
    step: Step,
}

impl Found {
    async fn new(
        app: &App,
        provided: Provided,
        task: Option<i64>,
        step_id: &str,
    ) -> Result<Self, ApiError> {
        let id = task.ok_or_else(ApiError::task_not_found)?;
        let task = app
            .0
            .store
            .task(id)
            .await?
            .ok_or_else(ApiError::task_not_found)?;
        if task.plugin != provided.plugin.identifier {
            return Err(ApiError::task_not_found());
        }
        let step = task
            .steps
            .iter()
            .find(|step| step.step_id == step_id)
            .cloned();
        let step = step.ok_or_else(|| {
            ApiError::with(
                StatusCode::NOT_FOUND,
                format!("The task has no step {step_id:?}."),
            )
        })?;
        if provided.plugin.step(&step.step).is_none() {
            return Err(ApiError::with(
                StatusCode::CONFLICT,
                format!("The step {step_id:?} is not part of the plugin any more."),
            ));
        }
        Ok(Self {
            provided,
            task,
            step,
        })
    }

    fn form(&self) -> &FormDescription {
        // That there is one was checked when this was made.
        self.provided
            .plugin
            .step(&self.step.step)
            .unwrap_or(&self.provided.plugin.form)
    }

    fn path(&self, action: &str) -> String {
        let (task, step) = (self.task.id, &self.step.step_id);
        format!("{}{task}/{step}-{action}/", path_of(&self.provided.plugin))
    }

    fn page(
        &self,
        app: &App,
        base: &BaseUrl,
        values: Form,
        errors: FieldErrors,
        is_valid: bool,
    ) -> Result<Response, ApiError> {
        let page = app.0.pages.form(&FormPage {
            base,
            plugin: &self.provided.plugin,
            form: self.form(),
            page: base.path(&self.path("ui")),
            process: base.path(&self.path("process")),
            values,
            prefill: &self.step.values,
            errors,
            is_valid,
        })?;
        Ok(page.into_response())
    }

    /// Submits the step: at most once, whoever else does it at the same time.
    async fn submit(
        self,
        app: &App,
        base: &BaseUrl,
        request: Request,
    ) -> Result<Response, ApiError> {
        let sent = Sent::read(app, request).await?;
        let form = &self.form().parameters;
        let parameters = match checked(app, &sent, form) {
            Ok(parameters) => parameters,
            // What is wrong with the values matters only where they would be taken.
            Err(error) => {
                self.submitted(Map::new())?;
                return Err(error);
            }
        };
        let uploads = form.uploads(&parameters);
        let files = sent.into_uploads(&uploads);
        let expected_version = self.task.version;
        let (task, events) = self.submitted(parameters)?;
        let offer = Offer::of(&task);
        let shared = app.clone();
        let commit = files.named_by(async move {
            let write = PageWrite {
                task: &task,
                expected_version,
                events: &events,
                uploads: &uploads,
                log: "",
            };
            if shared.0.store.write_page_with(write).await? {
                return Ok(());
            }
            Err(changed_meanwhile())
        });
        let (app, number) = (app.clone(), offer.job.task);
        let announce = move |(): &()| {
            app.0.events.changed(offer.job.task);
            app.0.queue.push(offer.clone());
            app.0.queue.deliveries_due();
        };
        commit_then_announce(commit, announce).await?;
        Ok(redirect(
            StatusCode::SEE_OTHER,
            &base.path(&format!("/tasks/{number}/")),
        ))
    }

    /// The task as it is with the step submitted, and what its subscribers are told.
    fn submitted(
        &self,
        parameters: Map<String, Value>,
    ) -> Result<(Task, Vec<TaskEvent>), ApiError> {
        let mut task = self.task.clone();
        let step_id = self.step.step_id.clone();
        let change = Change::StepSubmitted {
            step_id,
            parameters,
        };
        let events = task.apply(change).map_err(|refused| conflict(&refused))?;
        Ok((task, events))
    }
}

fn conflict(refused: &Refused) -> ApiError {
    let mut text = refused.to_string();
    text[..1].make_ascii_uppercase();
    ApiError::with(
        StatusCode::CONFLICT,
        format!("{text}; nothing was changed."),
    )
}

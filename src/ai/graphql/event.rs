//! The steps of an execution as its watchers see them.

use async_graphql::{Description, ID, Interface, Object};

use crate::ai::graphql::execution::AiExecution;
use crate::ai::service::watch::Step;
use crate::entity::execution;
use crate::graphql::payload::int;
use crate::graphql::scalars::DateTime;

/// A step of an execution.
#[derive(Interface)]
#[graphql(
    field(name = "seq", ty = "i32", desc = "The place in the execution's sequence, from 1."),
    field(name = "execution_id", ty = "ID", desc = "The execution's id."),
    field(name = "at", ty = "DateTime", desc = "When it happened.")
)]
pub enum AiExecutionEvent {
    /// It was started.
    Started(AiExecutionStarted),
    /// It has ended.
    Finished(AiExecutionFinished),
}

/// The execution's credits are held and it runs.
#[derive(Description)]
pub struct AiExecutionStarted(execution::Model);

#[Object(use_type_description)]
impl AiExecutionStarted {
    /// The place in the execution's sequence: 1.
    async fn seq(&self) -> i32 {
        1
    }

    /// The execution's id.
    async fn execution_id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// When it was started.
    async fn at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// Credits that are held for it.
    async fn credits_held(&self) -> i32 {
        int(self.0.credits_held)
    }
}

/// The execution has ended. The last event.
#[derive(Description)]
pub struct AiExecutionFinished(execution::Model);

#[Object(use_type_description)]
impl AiExecutionFinished {
    /// The place in the execution's sequence.
    async fn seq(&self) -> i32 {
        2
    }

    /// The execution's id.
    async fn execution_id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// When it ended.
    async fn at(&self) -> DateTime {
        DateTime(self.0.finished_at.unwrap_or(self.0.created_at))
    }

    /// The execution with its result and charge.
    async fn execution(&self) -> AiExecution {
        AiExecution(self.0.clone())
    }
}

impl From<Step> for AiExecutionEvent {
    fn from(step: Step) -> Self {
        match step {
            Step::Started(row) => AiExecutionStarted(row).into(),
            Step::Finished(row) => AiExecutionFinished(row).into(),
        }
    }
}

//! Unusual use in the API.

use async_graphql::{Context, Description, Enum, ID, InputObject, Object, Result, SimpleObject};

use crate::anomaly::block::{self, Settings};
use crate::anomaly::score::{self, Signal};
use crate::entity::tenant;
use crate::entity::{execution, user_block};
use crate::error::Error;
use crate::graphql::caller::{Answer, answer, caller, payload};
use crate::graphql::page::{Connection, List, OrderDirection, OrderField, PageArgs};
use crate::graphql::payload::int;
use crate::graphql::scalars::{DateTime, Decimal};
use crate::identity::graphql::{User, load_user};
use crate::ids::{BlockId, TypedId};
use crate::loads;
use crate::payloads;

/// What is unusual about a call. The formula is in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "score::SignalKind")]
pub enum AnomalySignalKind {
    /// Many runs in an hour, compared with the person and with the tenant's people.
    Frequency,
    /// Many credits in an hour, compared likewise.
    Volume,
    /// An hour of the week that is hardly ever used.
    HourOfWeek,
    /// The same prompt again and again, but for numbers, marks and case.
    RepeatedPrompt,
}

/// What follows from a high score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "tenant::AnomalyMode")]
pub enum AnomalyMode {
    /// From 90 on the person's calls are refused for a while.
    Enforce,
    /// Everything is recorded, and nobody is refused.
    Shadow,
}

/// Something unusual about a call.
#[derive(Clone, Debug, SimpleObject)]
pub struct AnomalySignal {
    /// What it is.
    kind: AnomalySignalKind,
    /// The score, 1 to 100, were it the only signal.
    contribution: i32,
    /// What was measured in the person's last hour: runs, credits, the hour's share of an even
    /// week, runs.
    observed: Decimal,
    /// What is usual, in the same measure.
    expected: Decimal,
}

impl From<Signal> for AnomalySignal {
    fn from(signal: Signal) -> Self {
        let hundredths = |number| Decimal(rust_decimal::Decimal::new(number, 2).normalize());
        Self {
            kind: signal.kind.into(),
            contribution: signal.contribution.into(),
            observed: hundredths(signal.observed),
            expected: hundredths(signal.expected),
        }
    }
}

/// How unusual a call was when its credits were held.
#[derive(Clone, Debug, SimpleObject)]
pub struct AnomalyScore {
    /// 0 to 100: 70 warns, 90 blocks.
    score: i32,
    /// Why, the strongest first; at most 4.
    signals: Vec<AnomalySignal>,
}

impl AnomalyScore {
    /// As it stands beside an execution.
    pub(crate) fn of(execution: &execution::Model) -> Result<Self, Error> {
        let signals = signals(execution.anomaly_signals.clone())?;
        Ok(Self { score: int(execution.anomaly_score), signals })
    }
}

fn signals(stored: serde_json::Value) -> Result<Vec<AnomalySignal>, Error> {
    let signals: Vec<Signal> = serde_json::from_value(stored)?;
    Ok(signals.into_iter().map(AnomalySignal::from).collect())
}

/// A person whose AI calls are refused for a while.
#[derive(Description)]
pub struct AnomalyBlock(pub user_block::Model);

#[Object(use_type_description)]
impl AnomalyBlock {
    /// The block's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The person; null when they have left.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        load_user(ctx, self.0.user_id).await
    }

    /// The score of the call that led to it, 90 to 100.
    async fn score(&self) -> i32 {
        int(self.0.score)
    }

    /// Why, the strongest first; at most 4.
    fn signals(&self) -> Result<Vec<AnomalySignal>> {
        Ok(signals(self.0.signals.clone())?)
    }

    /// Whether it withholds calls now.
    async fn is_active(&self, ctx: &Context<'_>) -> bool {
        block::is_active(&caller(ctx).app, &self.0)
    }

    /// When it began.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When it ends by itself.
    async fn blocked_until(&self) -> DateTime {
        DateTime(self.0.blocked_until)
    }

    /// When an ADMIN lifted it; null when nobody did.
    async fn lifted_at(&self) -> Option<DateTime> {
        self.0.lifted_at.map(DateTime)
    }

    /// Who lifted it; null when nobody did, or when they have left.
    async fn lifted_by(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        match self.0.lifted_by {
            Some(user) => load_user(ctx, user).await,
            None => Ok(None),
        }
    }
}

/// What the tenant decided about unusual use.
#[derive(Clone, Debug, SimpleObject)]
pub struct AnomalySettings {
    /// What follows from a high score.
    mode: AnomalyMode,
    /// How many minutes a block lasts.
    block_minutes: i32,
}

impl From<Settings> for AnomalySettings {
    fn from(settings: Settings) -> Self {
        Self { mode: settings.mode.into(), block_minutes: int(settings.block_minutes) }
    }
}

/// What blocks are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum AnomalyBlockOrderField {
    /// When they began.
    CreatedAt,
}

impl OrderField for AnomalyBlockOrderField {
    type Entity = user_block::Entity;

    fn column(self) -> user_block::Column {
        match self {
            Self::CreatedAt => user_block::Column::CreatedAt,
        }
    }
}

/// What a tenant sees of unusual use.
#[derive(Default)]
pub struct AnomalyQuery;

#[Object]
impl AnomalyQuery {
    /// People whose calls were refused for unusual use, the newest first. For ADMIN.
    async fn anomaly_blocks(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many from the front, 1 to 100; 25 when absent.")] first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the back, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
    ) -> Answer<Connection<AnomalyBlock>> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let order = [(AnomalyBlockOrderField::CreatedAt, OrderDirection::Desc)];
                let list =
                    List::new(caller.app.db.primary(), block::list(caller.actor()?)?, &order);
                Ok(list.page(PageArgs { first, after, last, before }).await?.map(AnomalyBlock))
            }),
        )
        .await
    }

    /// What the tenant decided about unusual use. For ADMIN.
    async fn anomaly_settings(&self, ctx: &Context<'_>) -> Answer<AnomalySettings> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let settings = block::settings(&caller.app, caller.actor()?).await?;
                Ok(AnomalySettings::from(settings))
            }),
        )
        .await
    }
}

/// What to change. What is left out stays.
#[derive(Debug, InputObject)]
pub struct AnomalySettingsUpdateInput {
    /// What follows from a high score.
    mode: Option<AnomalyMode>,
    /// How many minutes a block lasts, 1 to 1440.
    block_minutes: Option<i32>,
}

payloads! {
    /// The result of `anomalyBlockLift`.
    AnomalyBlockPayload {
        /// The block as it is now.
        block: AnomalyBlock,
    }
    /// The result of `anomalySettingsUpdate`.
    AnomalySettingsPayload {
        /// The settings as they are now.
        settings: AnomalySettings,
    }
}

/// What ADMINs do about unusual use.
#[derive(Default)]
pub struct AnomalyMutation;

#[Object]
impl AnomalyMutation {
    /// Lifts a block: the person's calls run again, and their last hour begins anew. Doing so
    /// twice changes nothing. For ADMIN.
    async fn anomaly_block_lift(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The block's id.")] id: ID,
    ) -> Answer<AnomalyBlockPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            block::lift(&caller.app, actor, BlockId::parse(&id)?).await
        });
        let done =
            |row| AnomalyBlockPayload { block: Some(AnomalyBlock(row)), user_errors: Vec::new() };
        payload(ctx, work, done, AnomalyBlockPayload::refused).await
    }

    /// Changes what follows from unusual use. For ADMIN.
    async fn anomaly_settings_update(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to change.")] input: AnomalySettingsUpdateInput,
    ) -> Answer<AnomalySettingsPayload> {
        let caller = caller(ctx);
        let wish = (input.mode.map(Into::into), input.block_minutes.map(i64::from));
        let work =
            Box::pin(async { block::change_settings(&caller.app, caller.actor()?, wish).await });
        let done = |settings: Settings| AnomalySettingsPayload {
            settings: Some(settings.into()),
            user_errors: Vec::new(),
        };
        payload(ctx, work, done, AnomalySettingsPayload::refused).await
    }
}

loads! {
    BlockId => user_block::Model, block::find;
}

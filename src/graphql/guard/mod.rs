//! Refuses harmful documents before anything else touches them.
//!
//! The library's parser recurses over values without a bound (a few KB of `[[[[` end the process)
//! and its own limits are compared only after fragments were expanded, so a short document can
//! hold a core for seconds. Both transports therefore call [`check`] first: a linear pass over
//! the text ([`scan`]), then the parser, then a memoised pass over the parsed document
//! ([`weigh`]). The second pass also judges literals and variables by their types, because the
//! library reports values it cannot coerce as resolver errors, which null the whole root.

mod conflicts;
mod cost;
mod document;
mod lexical;
mod roots;
mod table;
mod values;
mod variables;

use async_graphql::parser::Error as ParserError;
use async_graphql::parser::types::ExecutableDocument;
use async_graphql::{Pos, ServerError, Variables};

pub use cost::{Weight, weigh};
pub use document::Document;
pub use lexical::scan;
pub use table::CostTable;

/// The longest message of a refusal, in characters; a parser's message can quote the document.
const MESSAGE_CHARACTERS: usize = 200;

/// What a document may cost us, as settings. The numbers never appear in a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Length of the text in bytes, white space and comments included.
    pub document_bytes: usize,
    /// Lexical tokens of the text; commas, comments and white space are none.
    pub tokens: usize,
    /// Length of one name in bytes; the library repeats names in every error about them.
    pub name_bytes: usize,
    /// Nesting of `(`, `[` and `{` together; bounds the recursion of the parser.
    pub brackets: usize,
    /// Directives of the text, counted by their `@`.
    pub directives: usize,
    /// Nesting of fields after fragments were expanded.
    pub depth: usize,
    /// The same below `__schema` and `__type`, where tools nest deeper.
    pub introspection_depth: usize,
    /// Nesting of selection sets, fragments expanded; bounds the recursion of the library, which
    /// would name its own limit.
    pub levels: usize,
    /// Aliases of one operation after fragments were expanded.
    pub aliases: usize,
    /// Root fields of one operation after fragments were expanded.
    pub root_fields: usize,
    /// `__schema` and `__type` among them; each may answer with the whole schema.
    pub introspections: usize,
    /// Selections (fields, spreads, inline fragments) of all operations after expansion, and of
    /// fragments that nobody spreads.
    pub selections: usize,
    /// Fields compared with those of the same response key (see [`Weight::compared`]).
    pub comparisons: usize,
    /// Values written in arguments, counted as [`Self::selections`], each variable as one. The
    /// library judges and may report every use of a variable for every operation.
    pub literals: usize,
    /// Argument values of all operations after expansion, each variable with all it holds. The
    /// library copies a variable for every use, so size times uses must have a bound.
    pub values: usize,
    /// Nesting of lists and objects within one variable.
    pub value_depth: usize,
    /// Cost of the chosen operation (see [`Weight::cost`]).
    pub cost: usize,
    /// Unknown names and misplaced selections; fewer are left to the library, which names each.
    pub errors: usize,
}

impl Limits {
    /// The cost that a platform admin may spend on one operation.
    pub const PLATFORM_ADMIN_COST: usize = 20_000;

    /// The same limits with the cost of a platform admin.
    pub fn for_platform_admin(&self) -> Self {
        let cost = self.cost.max(Self::PLATFORM_ADMIN_COST);
        Self { cost, ..self.clone() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes: 32 * 1024,
            tokens: 4_000,
            name_bytes: 255,
            brackets: 32,
            directives: 50,
            depth: 12,
            introspection_depth: 20,
            levels: 30,
            aliases: 30,
            root_fields: 30,
            introspections: 3,
            selections: 5_000,
            comparisons: 20_000,
            literals: 10_000,
            values: 50_000,
            value_depth: 32,
            cost: 2_000,
            errors: 20,
        }
    }
}

/// Why a document was refused. The text is for the client and names no limit's number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The text is not a GraphQL document.
    #[error("Syntax error: {message}")]
    Syntax {
        /// What was wrong, at most 200 characters.
        message: String,
        /// Where.
        pos: Option<Pos>,
    },
    /// The text has too many bytes.
    #[error("The document is too large")]
    TooLarge,
    /// The text has too many tokens.
    #[error("The document has too many tokens")]
    TooManyTokens {
        /// Where the first one too many stands.
        pos: Option<Pos>,
    },
    /// A name has too many bytes.
    #[error("A name is too long")]
    NameTooLong {
        /// Where it stands.
        pos: Option<Pos>,
    },
    /// Brackets, fields or variables are nested too deeply.
    #[error("The document is nested too deeply")]
    TooDeep {
        /// Where.
        pos: Option<Pos>,
    },
    /// The text has too many directives.
    #[error("The document has too many directives")]
    TooManyDirectives {
        /// Where the first one too many stands.
        pos: Option<Pos>,
    },
    /// An operation has too many aliases.
    #[error("The operation has too many aliases")]
    TooManyAliases {
        /// The operation.
        pos: Option<Pos>,
    },
    /// An operation has too many root fields.
    #[error("The operation has too many root fields")]
    TooManyRootFields {
        /// The operation.
        pos: Option<Pos>,
    },
    /// The operations select too much once their fragments are expanded.
    #[error("The document selects too many fields")]
    TooManySelections {
        /// The operation that passed the limit.
        pos: Option<Pos>,
    },
    /// The operations pass too many values in arguments and variables.
    #[error("The document passes too many values")]
    TooManyValues {
        /// The operation that passed the limit.
        pos: Option<Pos>,
    },
    /// The chosen operation costs too much.
    #[error("The operation is too costly; ask for fewer or smaller lists")]
    TooCostly {
        /// The operation.
        pos: Option<Pos>,
    },
    /// More than a few names are unknown or selections misplaced.
    #[error("{first}; the document has many more errors")]
    TooManyErrors {
        /// The first of them.
        first: String,
        /// Where it stands.
        pos: Option<Pos>,
    },
    /// A fragment contains itself.
    #[error("Fragment \"{name}\" contains itself")]
    FragmentCycle {
        /// The fragment.
        name: String,
        /// Where it is defined.
        pos: Option<Pos>,
    },
    /// One response key is asked for with two meanings.
    #[error("Fields \"{key}\" conflict; use different aliases to fetch both")]
    FieldConflict {
        /// The response key.
        key: String,
        /// The second of the two fields.
        pos: Option<Pos>,
    },
    /// A subscription does not have exactly one root field, or its only one is `__typename`.
    #[error("A subscription must select exactly one field")]
    SubscriptionRootFields {
        /// The operation.
        pos: Option<Pos>,
    },
    /// The document has no operation of the name that was asked for.
    #[error("The document has no operation of that name")]
    OperationNotFound,
    /// The document has several operations and none was named.
    #[error("The document has several operations; name the one to run")]
    OperationNameRequired,
    /// A value in the document does not fit its place.
    #[error("{message}")]
    InvalidValue {
        /// What does not fit, and where: `… at creditAnalytics.days`.
        message: String,
        /// The argument.
        pos: Option<Pos>,
    },
    /// A variable is missing or does not fit its declared type.
    #[error("{message}")]
    InvalidVariable {
        /// What does not fit, and where: `… at $input.tags[2]`.
        message: String,
        /// The variable's declaration.
        pos: Option<Pos>,
    },
}

impl Refusal {
    /// A stable name for logs, metrics and tests.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "SYNTAX",
            Self::TooLarge => "TOO_LARGE",
            Self::TooManyTokens { .. } => "TOO_MANY_TOKENS",
            Self::NameTooLong { .. } => "NAME_TOO_LONG",
            Self::TooDeep { .. } => "TOO_DEEP",
            Self::TooManyDirectives { .. } => "TOO_MANY_DIRECTIVES",
            Self::TooManyAliases { .. } => "TOO_MANY_ALIASES",
            Self::TooManyRootFields { .. } => "TOO_MANY_ROOT_FIELDS",
            Self::TooManySelections { .. } => "TOO_MANY_SELECTIONS",
            Self::TooManyValues { .. } => "TOO_MANY_VALUES",
            Self::TooCostly { .. } => "TOO_COSTLY",
            Self::TooManyErrors { .. } => "TOO_MANY_ERRORS",
            Self::FragmentCycle { .. } => "FRAGMENT_CYCLE",
            Self::FieldConflict { .. } => "FIELD_CONFLICT",
            Self::SubscriptionRootFields { .. } => "SUBSCRIPTION_ROOT_FIELDS",
            Self::OperationNotFound => "OPERATION_NOT_FOUND",
            Self::OperationNameRequired => "OPERATION_NAME_REQUIRED",
            Self::InvalidValue { .. } => "INVALID_VALUE",
            Self::InvalidVariable { .. } => "INVALID_VARIABLE",
        }
    }

    /// The place in the document, where one is known.
    pub fn pos(&self) -> Option<Pos> {
        match self {
            Self::TooLarge | Self::OperationNotFound | Self::OperationNameRequired => None,
            Self::Syntax { pos, .. }
            | Self::TooManyTokens { pos }
            | Self::NameTooLong { pos }
            | Self::TooDeep { pos }
            | Self::TooManyDirectives { pos }
            | Self::TooManyAliases { pos }
            | Self::TooManyRootFields { pos }
            | Self::TooManySelections { pos }
            | Self::TooManyValues { pos }
            | Self::TooCostly { pos }
            | Self::TooManyErrors { pos, .. }
            | Self::FragmentCycle { pos, .. }
            | Self::FieldConflict { pos, .. }
            | Self::SubscriptionRootFields { pos }
            | Self::InvalidValue { pos, .. }
            | Self::InvalidVariable { pos, .. } => *pos,
        }
    }

    /// Whether the text parses as GraphQL, as far as it was read, but is refused nevertheless.
    /// GraphQL over HTTP answers a syntax error differently from one of validation.
    pub fn is_validation(&self) -> bool {
        !matches!(self, Self::Syntax { .. })
    }

    /// The refusal as the library's error: message and location, no extensions.
    pub fn to_server_error(&self) -> ServerError {
        ServerError::new(self.to_string(), self.pos())
    }
}

/// Scans, parses and weighs a document, in that order, and returns it parsed with the weight of
/// the chosen operation.
///
/// # Errors
///
/// The first [`Refusal`] met.
pub fn check(
    text: &str,
    operation_name: Option<&str>,
    variables: &Variables,
    table: &CostTable,
    limits: &Limits,
) -> Result<(ExecutableDocument, Weight), Refusal> {
    let document = Document::read(text, limits)?;
    let weight = document.weigh(operation_name, variables, table, limits)?;
    Ok((document.into_parsed(), weight))
}

fn refusal_of_parser(error: ParserError) -> Refusal {
    let pos = error.positions().next();
    if error == ParserError::RecursionLimitExceeded {
        return Refusal::TooDeep { pos };
    }
    let text = error.to_string();
    // The parser draws the offending line, which may be the whole document, and puts the message
    // on the last line, behind "= ".
    let last = text.lines().last().map(str::trim_start);
    let message = last.and_then(|line| line.strip_prefix("= ")).unwrap_or(text.as_str());
    let message = message.chars().take(MESSAGE_CHARACTERS).collect();
    Refusal::Syntax { message, pos }
}

/// The beginning of a client's word, short enough to repeat.
fn excerpt(word: &str) -> String {
    word.chars().take(60).collect()
}

//! A document between the parser and its execution.

use std::sync::OnceLock;

use async_graphql::Variables;
use async_graphql::parser::parse_query;
use async_graphql::parser::types::ExecutableDocument;

use super::{CostTable, Limits, Refusal, Weight, cost, lexical, refusal_of_parser, roots};

/// A document that was scanned and parsed, to be weighed with each caller's variables.
pub struct Document {
    parsed: ExecutableDocument,
    tokens: usize,
    /// The weight of the only operation, when it has no variables; then nothing of a call but its
    /// limit of cost can change the judgement.
    constant: OnceLock<Weight>,
}

impl Document {
    /// Scans and parses a text.
    ///
    /// # Errors
    ///
    /// The limit of the text that is passed, or what is no GraphQL.
    pub fn read(text: &str, limits: &Limits) -> Result<Self, Refusal> {
        let tokens = lexical::count(text, limits)?;
        let parsed = parse_query(text).map_err(refusal_of_parser)?;
        Ok(Self { parsed, tokens, constant: OnceLock::new() })
    }

    /// As [`super::weigh`]; a document without variables is weighed once. The limits may differ
    /// from call to call in their cost only.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`] met.
    pub fn weigh(
        &self,
        operation_name: Option<&str>,
        variables: &Variables,
        table: &CostTable,
        limits: &Limits,
    ) -> Result<Weight, Refusal> {
        let chosen = cost::choose(&self.parsed, operation_name)?;
        if let Some(weight) = self.constant.get().filter(|weight| weight.cost <= limits.cost) {
            return Ok(*weight);
        }
        let weight = super::weigh(&self.parsed, operation_name, variables, table, limits)?;
        let is_constant = chosen.node.variable_definitions.is_empty()
            && self.parsed.operations.iter().count() == 1;
        if is_constant {
            self.constant.get_or_init(|| weight);
        }
        Ok(weight)
    }

    /// Root fields that an operation executes with these variables: each alias, each repetition,
    /// nothing that `@skip` or `@include` leaves out; 1 at least.
    ///
    /// # Errors
    ///
    /// The operation cannot be told.
    pub fn count_roots(
        &self,
        operation_name: Option<&str>,
        variables: &Variables,
    ) -> Result<usize, Refusal> {
        let chosen = cost::choose(&self.parsed, operation_name)?;
        Ok(roots::count(&self.parsed, &chosen.node, variables))
    }

    /// Lexical tokens of its text, a measure of what it takes in memory.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// As the library takes it.
    pub fn parsed(&self) -> &ExecutableDocument {
        &self.parsed
    }

    /// The same, of a document that is not needed any more.
    pub fn into_parsed(self) -> ExecutableDocument {
        self.parsed
    }
}

// What a dashboard asks.
import { graphql } from './graphql.js';

export const Balance = graphql(`
  fragment Balance on CreditBalance {
    current
    held
    available
    version
    at
  }
`);

/** Every mutation selects this; refusals with numbers of their own add them. */
export const Refusal = graphql(`
  fragment Refusal on UserError {
    __typename
    code
    field
    message
    ... on InsufficientCredits {
      needed
      available
      held
    }
    ... on RateLimited {
      limit
      remaining
      retryAfterSeconds
    }
    ... on StaleVersion {
      currentVersion
    }
    ... on SuspiciousActivity {
      blockedUntil
    }
  }
`);

export const ViewerQuery = graphql(`
  query Viewer {
    viewer {
      user { id name }
      tenant { id name planType timeZone }
      role
      permissions
      isPlatformAdmin
    }
  }
`);

export const AccountQuery = graphql(
  `
    query Account($days: Int!) {
      creditAccount {
        id
        planType
        balance { ...Balance }
        monthlyFreeCredits
        usedThisMonth
        runway { daysLeft depletesOn dailyRate }
        holds { credits functionType createdAt execution { id } }
        usage(days: $days) {
          topFunctions { functionType creditsUsed percentage }
          dailyUsage { date credits executions }
        }
      }
    }
  `,
  [Balance],
);

export const TransactionsQuery = graphql(`
  query Transactions($first: Int!, $after: String, $where: CreditTransactionWhere) {
    creditAccount {
      transactions(first: $first, after: $after, where: $where) {
        nodes {
          id
          type
          credits
          balanceAfter
          totalCost { amount currency }
          execution { id functionType }
          createdAt
        }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
`);

export const QuoteQuery = graphql(`
  query Quote($input: AiQuoteInput!) {
    aiExecutionQuote(input: $input) { credits hold inputTokens maxTokens affordable model }
  }
`);

export const Execution = graphql(`
  fragment Execution on AiExecution {
    id
    status
    idempotencyKey
    result { output }
    charge { creditsUsed creditsRefunded totalCost { amount currency } }
    failure { code message retryable }
  }
`);

export const ExecutionOfKeyQuery = graphql(
  `
    query ExecutionOfKey($key: String!) {
      aiExecutions(first: 1, where: { idempotencyKey: { eq: $key } }) {
        nodes { ...Execution }
      }
    }
  `,
  [Execution],
);

export const ExecuteMutation = graphql(
  `
    mutation Execute($input: AiExecuteInput!) {
      aiExecute(input: $input) {
        execution { ...Execution }
        balance { ...Balance }
        userErrors { ...Refusal }
      }
    }
  `,
  [Balance, Execution, Refusal],
);

export const StartMutation = graphql(
  `
    mutation Start($input: AiExecuteInput!) {
      aiExecutionStart(input: $input) {
        execution { id }
        userErrors { ...Refusal }
      }
    }
  `,
  [Refusal],
);

export const BonusMutation = graphql(
  `
    mutation Bonus($input: CreditBonusGrantInput!) {
      creditBonusGrant(input: $input) {
        grant { id granted expiresAt }
        balance { ...Balance }
        userErrors { ...Refusal }
      }
    }
  `,
  [Balance, Refusal],
);

export const RefundMutation = graphql(
  `
    mutation Refund($input: CreditRefundInput!) {
      creditRefund(input: $input) {
        transaction { id type credits }
        balance { ...Balance }
        userErrors { ...Refusal }
      }
    }
  `,
  [Balance, Refusal],
);

export const BalanceSubscription = graphql(
  `
    subscription BalanceChanges {
      creditBalance { ...Balance }
    }
  `,
  [Balance],
);

export const ExecutionEventsSubscription = graphql(
  `
    subscription ExecutionEvents($id: ID!, $after: Int) {
      aiExecutionEvents(executionId: $id, after: $after) {
        __typename
        seq
        at
        ... on AiExecutionStarted { creditsHeld }
        ... on AiExecutionFinished { execution { ...Execution } }
      }
    }
  `,
  [Execution],
);

// Lists, page by page.

interface Page<Entry> {
  nodes: readonly Entry[];
  pageInfo: { hasNextPage: boolean; endCursor: string | null };
}

/** All entries of a list: asks for the next page when the one before is used up. */
export async function* entries<Entry>(
  ask: (after: string | null) => Promise<Page<Entry>>,
): AsyncGenerator<Entry> {
  let after: string | null = null;
  for (;;) {
    const page: Page<Entry> = await ask(after);
    yield* page.nodes;
    if (!page.pageInfo.hasNextPage) return;
    after = page.pageInfo.endCursor;
  }
}

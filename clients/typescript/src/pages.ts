/** Lists that the server gives page by page. */

/** One page, as the server gives it. */
export interface Page<Item> {
  data: Item[];
  has_more: boolean;
}

type Cursor = string | number;

/**
 * All items of a list, read page by page as they are needed:
 *
 *     for await (const profile of client.profiles.list()) …
 *     for await (const page of client.profiles.list({ limit: 200 }).pages()) …
 */
export class Pages<Item> implements AsyncIterable<Item> {
  readonly #load: (cursor: Cursor | undefined) => Promise<Page<Item>>;
  readonly #cursorOf: (last: Item) => Cursor;

  constructor(load: (cursor: Cursor | undefined) => Promise<Page<Item>>, cursorOf: (last: Item) => Cursor) {
    this.#load = load;
    this.#cursorOf = cursorOf;
  }

  /** The first page alone. */
  first(): Promise<Page<Item>> {
    return this.#load(undefined);
  }

  /** Page after page. */
  async *pages(): AsyncGenerator<Page<Item>, void, undefined> {
    let cursor: Cursor | undefined;
    for (;;) {
      const page = await this.#load(cursor);
      yield page;
      const last = page.data.at(-1);
      if (!page.has_more || last === undefined) return;
      cursor = this.#cursorOf(last);
    }
  }

  /** Item after item. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Item, void, undefined> {
    for await (const page of this.pages()) yield* page.data;
  }
}

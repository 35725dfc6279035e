/** What keeps a scene from being shown; its message is a sentence for the person who looks at the page. */
export class PageError extends Error {
  override name = "PageError";
}

/** The sentence of an error, whatever was thrown. */
export function sentenceOf(error: unknown): string {
  if (error instanceof PageError) return error.message;
  return `This page has a fault: ${error instanceof Error ? error.message : String(error)}`;
}

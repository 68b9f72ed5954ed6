/** Ctrl-C, which stops a command, or only a part of it. */
export class Interrupts {
  /** Asked first; true if what it stopped is all that was to stop. */
  handler: (() => boolean) | null = null;
  private readonly controller = new AbortController();

  /** Aborted when the command is to end. */
  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Ctrl-C was pressed. */
  press(): void {
    if (!this.handler?.()) this.controller.abort(new Error('Interrupted.'));
  }
}

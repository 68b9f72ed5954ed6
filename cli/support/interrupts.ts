/** Ctrl-C, which ends a command or only its current part, and requests of the system to end the process. */
export class Interrupts {
  /** Called first. Returns true if it has handled the key press, so that the command continues. */
  handler: (() => boolean) | null = null;
  private readonly controller = new AbortController();

  /** Aborted when the command should end. */
  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Must be called when Ctrl-C is pressed. */
  press(): void {
    if (!this.handler?.()) this.controller.abort(new Error('Interrupted.'));
  }

  /** Must be called when the system asks the process to end. No handler can prevent that. */
  terminate(): void {
    this.controller.abort(new Error('Terminated.'));
  }
}

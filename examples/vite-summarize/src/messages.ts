/** What the page and the Worker say to each other. */
export type ToWorker = {type: 'summarize'; text: string} | {type: 'stop'};

export type FromWorker = {type: 'status'; text: string} | {type: 'piece'; piece: string} | {type: 'done'};

/** Exporting to transformers. A page that only generates text loads none of this code. */
import {type exportModel as ExportModel, type exportTokenizer as ExportTokenizer} from './export_model';

export type {ExportOptions} from './export_model';

export const exportModel: typeof ExportModel = async (...args) => (await import('./export_model')).exportModel(...args);

export const exportTokenizer: typeof ExportTokenizer = async (...args) =>
  (await import('./export_model')).exportTokenizer(...args);

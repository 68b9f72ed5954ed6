/** The page: sections, and the engine that they share. */
import './isolation';
import {showSections} from './sections';
import {Engine} from './engine/engine';
import {TINY} from './engine/sources';
import {showWhere} from './model/where';
import {showModelPanel} from './model/panel';
import {showChat} from './chat/panel';
import {showTune} from './tune/panel';

showSections();
const engine = new Engine();
showWhere(engine);
showModelPanel(engine);
void showChat(engine);
showTune(engine);
void engine.load(TINY);

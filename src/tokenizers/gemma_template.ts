/** Gemma 3's chat template for other programs. This package writes conversations itself: see `chat_template.ts`. */
import {END_OF_TURN, START_OF_IMAGE, START_OF_TURN} from './chat_template';

/** In Jinja. It produces the same texts as the template that Google publishes with the weights. */
export const GEMMA_TEMPLATE = `\
{{ bos_token }}
{%- if messages[0].role == 'system' -%}
    {%- set system = messages[0].content -%}
    {%- if system is string -%}
        {%- set lead = system + '\\n\\n' -%}
    {%- else -%}
        {%- set lead = system[0].text + '\\n\\n' -%}
    {%- endif -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set lead = '' -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for turn in turns -%}
    {%- if (turn.role == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Expected user and assistant to alternate, beginning with the user.') }}
    {%- endif -%}
    {%- set role = turn.role -%}
    {%- if role == 'assistant' -%}
        {%- set role = 'model' -%}
    {%- endif -%}
    {{ '${START_OF_TURN}' + role + '\\n' + (lead if loop.first else '') }}
    {%- if turn.content is string -%}
        {{ turn.content | trim }}
    {%- else -%}
        {%- for part in turn.content -%}
            {%- if part.type == 'image' -%}
                {{ '${START_OF_IMAGE}' }}
            {%- elif part.type == 'text' -%}
                {{ part.text | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '${END_OF_TURN}\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '${START_OF_TURN}model\\n' }}
{%- endif -%}
`;

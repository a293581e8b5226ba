/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of words that belong to an operation: whom it affected, which generations it is for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/link.h"
#include "agentd/op.h"
#include "agentd/wk.h"

#define AFFECTED_TEXT_MAX 440 /* and one alias more: what the journal keeps */

static bool is_listed(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (; list && *list; list += strcspn(list, ","), list += *list == ',')
        if (strncmp(list, word, n) == 0 && (list[n] == ',' || !list[n]))
            return true;
    return false;
}

bool op_has_moved(const struct wk *w, const struct wire_call *c)
{
    char now[16], text[64];

    snprintf(now, sizeof(now), "%u", w->generation);
    if (!c->generations || !c->generations[0] || is_listed(c->generations, now))
        return false;
    snprintf(text, sizeof(text), "the worker's generation is %s", now);
    link_reply(&(struct wire_reply){.call = c->call, .error = WIRE_E_PRECONDITION, .message = text});
    return true;
}

void op_note_affected(struct op *o, const char *alias)
{
    char *text;

    if (is_listed(o->affected, alias) || (o->affected && strlen(o->affected) > AFFECTED_TEXT_MAX))
        return;
    if (asprintf(&text, "%s%s%s", o->affected ? o->affected : "", o->affected ? "," : "", alias) < 0)
        return;
    free(o->affected);
    o->affected = text;
}

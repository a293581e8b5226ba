/* SPDX-License-Identifier: Apache-2.0 */
#include "base/feature.h"

#include "base/str.h"

const struct feature_row feature_table[FEATURE_MAX] = {
#define FEATURE(id, name, since, severity, cost, cure) {name, since, severity, cost, cure},
#include "base/feature.def"
#undef FEATURE
};

static const char *const names[FEATURE_STATE_MAX] = {"untried", "there", "lacking"};
static enum feature_state states[FEATURE_MAX];

void feature_note(enum feature_id id, bool there)
{
    states[id] = there ? FEATURE_THERE : FEATURE_LACKING;
}

enum feature_state feature_state(enum feature_id id)
{
    return states[id];
}

const char *feature_state_name(enum feature_state s)
{
    return names[s];
}

enum feature_state feature_state_from(const char *name)
{
    for (unsigned i = 0; i < FEATURE_STATE_MAX; i++)
        if (str_eq(names[i], name))
            return (enum feature_state)i;
    return FEATURE_UNTRIED;
}

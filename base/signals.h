/* SPDX-License-Identifier: Apache-2.0 */
/* base/signals: signals by number and by name: signal(7). */
#ifndef BASE_SIGNALS_H
#define BASE_SIGNALS_H

/* With or without SIG, RTMIN+N and RTMAX-N too, or a number; 0 if it is none. */
int signals_from_name(const char *name);
/* With SIG; of what has no name the number. */
const char *signals_name(int signal, char buf[16]);

#endif

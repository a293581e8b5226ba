/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/tls_check: has what TLS is made of judged by the listener's program, which has the library for it.
 * May block: at start, or in a helper. Never knows what a certificate is. */
#ifndef AGENTD_TLS_CHECK_H
#define AGENTD_TLS_CHECK_H

#include "agentd/cfg.h"

/* rpc: path of agentd-rpc. What is wrong is reported as errors of agentd.conf, named by the file. Nothing to
 * do without ListenTls=. 0 or -EINVAL. */
int tls_check(const struct cfg *cfg, const char *rpc, struct cfg_report *report);

#endif

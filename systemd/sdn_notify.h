/* SPDX-License-Identifier: Apache-2.0 */
/* systemd/sdn_notify: messages to the service manager that never keep the caller waiting. Knows none of
 * them. sd_notify(3). */
#ifndef SYSTEMD_SDN_NOTIFY_H
#define SYSTEMD_SDN_NOTIFY_H

/* With a descriptor to be kept, or -1. Waits its turn, at most LIMIT_NOTIFY_WAITING of them, if the manager
 * is behind. */
__attribute__((format(printf, 2, 3))) void sdn_tell(int fd, const char *format, ...);
/* Of the moment only: not said if the manager is behind. */
__attribute__((format(printf, 1, 2))) void sdn_mention(const char *format, ...);

#endif

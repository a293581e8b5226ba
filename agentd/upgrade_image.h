/* SPDX-License-Identifier: Apache-2.0 */
/* What both halves of an upgrade share: the programs, the guardian, the marker. Nobody else includes it. */
#ifndef AGENTD_UPGRADE_IMAGE_H
#define AGENTD_UPGRADE_IMAGE_H

#include <stdint.h>

#include "base/buf.h"

#define UPGRADE_ENV "AGENTD_UPGRADE"           /* MODE:MEMFD:OLD:CONFIRM:REASON, see upgrade_new.c */
#define UPGRADE_CHECK_ENV "AGENTD_CHECK_STATE" /* the descriptor of --check-state */

extern char **environ;

void upgrade_image_init(char **argv);
void upgrade_image_set_path(const char *path); /* it runs from elsewhere than it is installed */
const char *upgrade_image_path(void);          /* the installed program */
uint64_t upgrade_image_deadline_us(void);
void upgrade_image_set_deadline(unsigned ms); /* for the new image to confirm */
void upgrade_image_dirs(const char *runtime_dir, const char *state_dir, const char *rpc_path,
                        unsigned deadline_ms);

/* The line of the state that is about the upgrade itself. */
void upgrade_image_save(struct buf *b, const char *operation);
/* Copies this program to StateDirectory; in a helper. 0 or -errno. */
int upgrade_image_keep(void);
/* Forks the guardian and becomes the program in fd. Returns -errno only if that failed: all is as before. */
int upgrade_image_exec(int fd, int state, const char *operation);
/* Becomes the program in fd, in that mode of UPGRADE_ENV. */
int upgrade_image_run(int fd, char mode, int state, int old, int confirm, const char *reason);

/* RuntimeDirectory/upgrade, while an upgrade is not confirmed. */
struct upgrade_marker {
    char operation[32], reason[600], stored[600], path[600], rpc[600];
    unsigned long long dev, ino; /* of the new program */
};
int upgrade_image_marker(const char *runtime_dir, struct upgrade_marker *ret); /* 0 or -errno */
void upgrade_image_unmark(const char *runtime_dir);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/cfg_mix: the mixers of cfg_keys.def, one for each kind of value. Each mixes all that the value is
 * for a running process, and nothing that only says where it was written. */
#ifndef AGENTD_CFG_MIX_H
#define AGENTD_CFG_MIX_H

#include "agentd/cfg_read.h"

CFG_MIXER(cfg_mix_plain); /* the bytes of the target */
CFG_MIXER(cfg_mix_text);  /* a char * */
CFG_MIXER(cfg_mix_list);  /* a char ** */
CFG_MIXER(cfg_mix_exec);
CFG_MIXER(cfg_mix_commands);   /* a struct cfg_commands */
CFG_MIXER(cfg_mix_needs);      /* min: enum cfg_need_kind */
CFG_MIXER(cfg_mix_dirs);       /* min: enum cfg_dir_kind */
CFG_MIXER(cfg_mix_conditions); /* min: 1: of assertions */
CFG_MIXER(cfg_mix_workdir);
CFG_MIXER(cfg_mix_env);
CFG_MIXER(cfg_mix_env_file);
CFG_MIXER(cfg_mix_load_credential);
CFG_MIXER(cfg_mix_set_credential);
CFG_MIXER(cfg_mix_limit);
CFG_MIXER(cfg_mix_nice);
CFG_MIXER(cfg_mix_oom);
CFG_MIXER(cfg_mix_res); /* of the rows of cgroup_res.def that have the key */
CFG_MIXER(cfg_mix_ambient);
CFG_MIXER(cfg_mix_bounding);
CFG_MIXER(cfg_mix_output);
CFG_MIXER(cfg_mix_error);
CFG_MIXER(cfg_mix_check); /* a struct cfg_check * */
CFG_MIXER(cfg_mix_listeners);
CFG_MIXER(cfg_mix_tls_listeners);
CFG_MIXER(cfg_mix_tls_file); /* min: enum cfg_tls; what is in the file too */
CFG_MIXER(cfg_mix_sockets);

#endif

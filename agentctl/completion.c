/* SPDX-License-Identifier: Apache-2.0 */
/* completion: scripts for shells, written from the tables of verbs and options, and the aliases that they ask
 * for. What comes from agentd is never evaluated by a shell. */
#include <stdio.h>
#include <stdlib.h>

#include "agentctl/out.h"
#include "agentctl/verbs.h"
#include "base/fd.h"
#include "base/str.h"

#define ASK_SEC 2
#define PLAIN "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+:-"

/* ---- what goes behind an option ---- */

static bool is_file(const struct options_row *x)
{
    return x->argument && (str_eq(x->argument, "FILE") || str_eq(x->argument, "PATH"));
}

static const char *values_of(const struct options_row *x)
{
    return str_eq(x->name, "output") ? "text json" : str_eq(x->name, "sort") ? "cpu memory id" : "";
}

/* Those without which the agentd that is meant is not reached. */
static bool is_where(const struct options_row *x)
{
    return options_listed("socket url user token-file cert key cacert", x->name);
}

/* The names of all options that pick says yes to, as alternatives of a case; joined: with their argument in
 * the same word. */
static void put_names_of(bool (*pick)(const struct options_row *x), bool joined)
{
    const char *separator = "";

    for (unsigned i = 0; i < options_count; i++) {
        const struct options_row *x = &options_table[i];
        if (!pick(x))
            continue;
        printf("%s--%s%s", separator, x->name, joined ? "=*" : "");
        if (x->letter)
            printf("|-%c%s", x->letter, joined ? "?*" : "");
        separator = "|";
    }
}

static void put_case(bool (*pick)(const struct options_row *x))
{
    put_names_of(pick, false);
}

static void put_joined_case(bool (*pick)(const struct options_row *x))
{
    put_names_of(pick, true);
}

static bool takes_other(const struct options_row *x)
{
    return x->argument && !is_where(x);
}

static bool takes_any(const struct options_row *x)
{
    return x->argument && !is_file(x) && !*values_of(x);
}

/* --name of a verb's own options, or of those of every verb. */
static void put_names(const struct verbs_row *v)
{
    for (unsigned i = 0; i < options_count; i++)
        if (v ? options_listed(v->options, options_table[i].name) : options_table[i].any)
            printf(" --%s", options_table[i].name);
}

/* A verb's words; those that stand for something are left to the caller. */
static void put_words(const struct verbs_row *v)
{
    char word[32];
    const char *at = v->words;

    for (size_t n; *at; at += n, at += *at == ' ') {
        n = strcspn(at, " ");
        snprintf(word, sizeof(word), "%.*s", (int)n, at);
        if (*word != '@')
            printf(" %s", word);
        for (unsigned i = 0; str_eq(word, "@verb") && i < verbs_count; i++)
            if (verbs_table[i].name)
                printf(" %s", verbs_table[i].name);
    }
}

static void put_verbs(void)
{
    for (unsigned i = 0; i < verbs_count; i++)
        if (verbs_table[i].name)
            printf(" %s", verbs_table[i].name);
}

/* Of bash and zsh: which words, options and kinds a verb has. */
static void put_verb_cases(void)
{
    for (unsigned i = 0; i < verbs_count; i++) {
        const struct verbs_row *v = &verbs_table[i];
        if (!v->name)
            continue;
        printf("    %s) candidates='", v->name);
        put_words(v);
        printf("' own='");
        put_names(v);
        printf("'%s%s ;;\n", options_listed(v->words, "@alias") ? " alias=1" : "",
               options_listed(v->words, "@file") ? " file=1" : "");
    }
}

static void put_value_cases(const char *file)
{
    printf("    ");
    put_case(is_file);
    printf(") %s ;;\n", file);
    for (unsigned i = 0; i < options_count; i++) {
        const struct options_row *x = &options_table[i];
        if (*values_of(x) && x->letter)
            printf("    --%s|-%c) candidates='%s' value=1 ;;\n", x->name, x->letter, values_of(x));
        else if (*values_of(x))
            printf("    --%s) candidates='%s' value=1 ;;\n", x->name, values_of(x));
    }
    printf("    ");
    put_case(takes_any);
    printf(") return ;;\n");
}

/* ---- bash ---- */

/* The line is cut at blanks here: for bash @, : and = end a word, and then only what is behind them is
 * replaced. */
static void put_bash(void)
{
    fputs("# Completion of agentctl for bash, written by `agentctl completion bash`.\n"
          "_agentctl() {\n"
          "  local -a line where=()\n"
          "  local cur prev i word verb= candidates= own= alias= file= value= part skip\n"
          "  COMPREPLY=()\n"
          "  read -ra line <<<\"${COMP_LINE:0:COMP_POINT}\"\n"
          "  [[ ${COMP_LINE:0:COMP_POINT} == *[[:blank:]] ]] && line+=('')\n"
          "  cur=${line[${#line[@]} - 1]} prev=${line[${#line[@]} - 2]}\n"
          "  for ((i = 1; i < ${#line[@]} - 1; i++)); do\n"
          "    case ${line[i]} in\n"
          "    ",
          stdout);
    put_case(is_where);
    fputs(") where+=(\"${line[i]}\" \"${line[i + 1]}\"); i=$((i + 1)) ;;\n    ", stdout);
    put_joined_case(is_where);
    fputs(") where+=(\"${line[i]}\") ;;\n    ", stdout);
    put_case(takes_other);
    fputs(") i=$((i + 1)) ;;\n"
          "    -*) ;;\n"
          "    *) [[ $verb ]] || verb=${line[i]} ;;\n"
          "    esac\n"
          "  done\n"
          "  case $verb in\n"
          "    '') candidates='",
          stdout);
    put_verbs();
    fputs("' ;;\n", stdout);
    put_verb_cases();
    fputs("  esac\n"
          "  case $prev in\n",
          stdout);
    put_value_cases("alias='' candidates='' file=1 value=1");
    fputs("  esac\n"
          "  [[ $value ]] && alias=\n"
          "  [[ $cur == -* && ! $value ]] && alias= file= candidates=\"$own",
          stdout);
    put_names(NULL);
    fputs("\"\n"
          "  for word in $candidates; do [[ $word == \"$cur\"* ]] && COMPREPLY+=(\"$word\"); done\n"
          "  [[ $alias ]] && while IFS= read -r word; do\n"
          "    [[ $word == \"$cur\"* ]] && COMPREPLY+=(\"$word\")\n"
          "  done < <(\"${line[0]}\" \"${where[@]}\" completion aliases 2>/dev/null)\n"
          "  [[ $file ]] && while IFS= read -r word; do COMPREPLY+=(\"$word\"); done < <(compgen -f -- "
          "\"$cur\")\n"
          "  [[ $file ]] && compopt -o filenames 2>/dev/null\n"
          "  part=${COMP_WORDS[COMP_CWORD]}\n"
          "  [[ $part == [@:=] ]] && part=\n"
          "  skip=${cur%\"$part\"}\n"
          "  COMPREPLY=(\"${COMPREPLY[@]#\"$skip\"}\")\n"
          "  return 0\n"
          "}\n"
          "complete -F _agentctl agentctl\n",
          stdout);
}

/* ---- zsh ---- */

static void put_quoted(const char *s, const char *special, const char *escape, const char *quote)
{
    for (; *s; s++)
        if (*s == '\'')
            fputs(quote, stdout);
        else if (strchr(special, *s))
            printf("%s%c", escape, *s);
        else
            putchar(*s);
}

static void put_zsh_verbs(void)
{
    for (unsigned i = 0; i < verbs_count; i++) {
        const struct verbs_row *v = &verbs_table[i];
        if (!v->name)
            continue;
        printf("      '%s:", v->name);
        put_quoted(v->help, ":\\", "\\", "'\\''");
        printf("'\n");
    }
}

static void put_zsh(void)
{
    fputs("#compdef agentctl\n"
          "# Completion of agentctl for zsh, written by `agentctl completion zsh`.\n"
          "_agentctl() {\n"
          "  local -a where found verbs\n"
          "  local i verb= candidates= own= alias= file= value=\n"
          "  for ((i = 2; i < CURRENT; i++)); do\n"
          "    case $words[i] in\n"
          "    ",
          stdout);
    put_case(is_where);
    fputs(") where+=(\"${(Q)words[i]}\" \"${(Q)words[i+1]}\"); i=$((i + 1)) ;;\n    ", stdout);
    put_joined_case(is_where);
    fputs(") where+=(\"${(Q)words[i]}\") ;;\n    ", stdout);
    put_case(takes_other);
    fputs(") i=$((i + 1)) ;;\n"
          "    -*) ;;\n"
          "    *) [[ -n $verb ]] || verb=$words[i] ;;\n"
          "    esac\n"
          "  done\n"
          "  case $verb in\n",
          stdout);
    put_verb_cases();
    fputs("  esac\n"
          "  case ${words[CURRENT-1]} in\n",
          stdout);
    put_value_cases("_files; return");
    fputs("  esac\n"
          "  if [[ $PREFIX == -* && -z $value ]]; then\n"
          "    compadd -- ${=own}",
          stdout);
    put_names(NULL);
    fputs("\n"
          "    return\n"
          "  fi\n"
          "  if [[ -z $verb && -z $value ]]; then\n"
          "    verbs=(\n",
          stdout);
    put_zsh_verbs();
    fputs("    )\n"
          "    _describe verb verbs\n"
          "    return\n"
          "  fi\n"
          "  compadd -- ${=candidates}\n"
          "  [[ -n $value ]] && return\n"
          "  if [[ -n $alias ]]; then\n"
          "    found=(\"${(@f)$(\"${(Q)words[1]}\" $where completion aliases 2>/dev/null)}\")\n"
          "    compadd -- $found\n"
          "  fi\n"
          "  [[ -n $file ]] && _files\n"
          "  return 0\n"
          "}\n"
          "_agentctl \"$@\"\n",
          stdout);
}

/* ---- fish ---- */

static void put_fish_option(const struct options_row *x)
{
    printf("complete -c agentctl");
    if (!x->any) {
        printf(" -n '__fish_seen_subcommand_from");
        for (unsigned i = 0; i < verbs_count; i++)
            if (options_listed(verbs_table[i].options, x->name))
                printf(" %s", verbs_table[i].name);
        printf("'");
    }
    printf(" -l %s", x->name);
    if (x->letter)
        printf(" -s %c", x->letter);
    if (is_file(x))
        printf(" -r -F");
    else if (*values_of(x))
        printf(" -x -a '%s'", values_of(x));
    else if (x->argument)
        printf(" -x");
    printf(" -d '");
    put_quoted(x->help, "\\", "\\", "\\'");
    printf("'\n");
}

static void put_fish_verb(const struct verbs_row *v)
{
    printf("complete -c agentctl -n __agentctl_no_verb -a %s -d '", v->name);
    put_quoted(v->help, "\\", "\\", "\\'");
    printf("'\n");
    if (*v->words && *v->words != '@') {
        printf("complete -c agentctl -n '__fish_seen_subcommand_from %s' -a '", v->name);
        put_words(v);
        printf("'\n");
    }
    if (options_listed(v->words, "@alias"))
        printf("complete -c agentctl -n '__fish_seen_subcommand_from %s' -a '(__agentctl_aliases)'\n",
               v->name);
    if (options_listed(v->words, "@file"))
        printf("complete -c agentctl -n '__fish_seen_subcommand_from %s' -F\n", v->name);
}

static void put_fish(void)
{
    fputs("# Completion of agentctl for fish, written by `agentctl completion fish`.\n"
          "function __agentctl_no_verb\n"
          "  not __fish_seen_subcommand_from",
          stdout);
    put_verbs();
    fputs("\n"
          "end\n"
          "function __agentctl_aliases\n"
          "  set -l line (commandline -opc)\n"
          "  set -l where\n"
          "  set -l take 0\n"
          "  for word in $line\n"
          "    if test $take = 1\n"
          "      set -a where $word\n"
          "      set take 0\n"
          "    else if contains -- $word",
          stdout);
    for (unsigned i = 0; i < options_count; i++)
        if (is_where(&options_table[i]))
            printf(" --%s", options_table[i].name);
    fputs("\n"
          "      set -a where $word\n"
          "      set take 1\n"
          "    else if string match -qr -- '^--(",
          stdout);
    for (unsigned i = 0, n = 0; i < options_count; i++)
        if (is_where(&options_table[i]))
            printf("%s%s", n++ ? "|" : "", options_table[i].name);
    fputs(")=' $word\n"
          "      set -a where $word\n"
          "    end\n"
          "  end\n"
          "  command $line[1] $where completion aliases 2>/dev/null\n"
          "end\n"
          "complete -c agentctl -f\n",
          stdout);
    for (unsigned i = 0; i < options_count; i++)
        put_fish_option(&options_table[i]);
    for (unsigned i = 0; i < verbs_count; i++)
        if (verbs_table[i].name)
            put_fish_verb(&verbs_table[i]);
}

/* ---- aliases ---- */

/* Of those only whose names need no quotes; nobody is asked for a password. */
static int put_aliases(const struct options *o)
{
    struct http_request q = {
        .method = "GET", .path = "/agentd/v1/workers", .wait_sec = -1, .timeout_sec = ASK_SEC, .quiet = true};
    struct http_reply r;
    char alias[OUT_TEXT];
    int code;

    if (o->user && !getenv("AGENTCTL_PASSWORD"))
        return EXIT_UNASKED;
    code = http_send(o, &q, &r);
    for (int w = code == EXIT_DONE ? json_first(&r.json, json_member(&r.json, r.data, "contents")) : -1;
         w >= 0; w = json_next(&r.json, w))
        if (*out_text(&r.json, w, "alias", alias) && strspn(alias, PLAIN) == strlen(alias))
            printf("%s\n", alias);
    http_free(&r);
    return code;
}

int completion_run(const struct options *o)
{
    const char *what = o->count == 2 ? o->words[1] : "";

    if (str_eq(what, "aliases"))
        return put_aliases(o);
    if (str_eq(what, "bash"))
        put_bash();
    else if (str_eq(what, "zsh"))
        put_zsh();
    else if (str_eq(what, "fish"))
        put_fish();
    else {
        options_complain("completion bash, zsh or fish: prints the script; completion aliases: the workers");
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

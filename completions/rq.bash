# Completion of rq(1) for bash(1): verbs, options, files, and ids and names of my jobs.
# What there is to complete is asked of rq itself, so that it is never out of date.

# The options of a verb, one a line; a second word means that a value follows.
_rq_options() {
    command rq help "$1" 2>/dev/null |
        sed -n 's/^  \(-[^ ].*\)$/\1/p' | sed 's/   *.*//' | tr ',' '\n' | sed 's/^ *//'
}

_rq_verbs() {
    command rq help 2>/dev/null | sed -n 's/^  rq \([a-z]\{1,\}\)   *.*/\1/p'
}

# Whatever needs no quotes. compgen -W expands its words as the shell does, and others give these names:
# what passes here must never be more than a word.
_rq_plain() {
    grep -x -e '[A-Za-z0-9_.][A-Za-z0-9_.-]*'
}

_rq_sets() {
    command rq sets 2>/dev/null | awk -F '  +' '$1 == "SET" { next } !NF { exit } NF > 2 { print $1 }' | _rq_plain
}

# Ids and names of my jobs that are listed, and behind a % my sets.
_rq_jobs() {
    case $1 in
    %*)
        _rq_sets | sed 's/^/%/'
        return
        ;;
    esac
    command rq q --mine 2>/dev/null |
        awk -F '  +' 'NR > 1 && !NF { exit } NR > 1 { print $2; print $NF }' | _rq_plain
}

_rq_nodes() {
    command rq nodes 2>/dev/null | awk 'NR > 1 && $1 == "TOTAL" { exit } NR > 1 { print $1 }' | _rq_plain
}

# Whether an option of this verb takes a value.
_rq_takes() {
    _rq_options "$1" | grep -q -e "^$2 "
}

_rq() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev= verb= place=1 word
    [ "$COMP_CWORD" -gt 1 ] && prev=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    while [ "$place" -lt "$COMP_CWORD" ]; do
        word=${COMP_WORDS[place]}
        case $word in
        -u | --user) place=$((place + 1)) ;;
        -*) ;;
        *)
            verb=$word
            break
            ;;
        esac
        place=$((place + 1))
    done
    if [ -z "$verb" ]; then
        case $cur in
        -*) COMPREPLY=($(compgen -W "$(_rq_options q | cut -d ' ' -f 1)" -- "$cur")) ;;
        *) COMPREPLY=($(compgen -W "$(_rq_verbs)" -- "$cur")) ;;
        esac
        return
    fi
    if [ "$verb" = dirjobs ]; then
        # Behind the directory is a command.
        place=$((place + 1))
        while [ "$place" -lt "$COMP_CWORD" ] && [ "${COMP_WORDS[place]}" != -- ]; do
            place=$((place + 1))
        done
        if [ "$place" -lt "$COMP_CWORD" ]; then
            if [ $((place + 1)) -eq "$COMP_CWORD" ]; then
                COMPREPLY=($(compgen -c -- "$cur"))
            elif declare -F _command_offset >/dev/null; then
                _command_offset $((place + 1))
            fi
            return
        fi
    fi
    if [ "$verb" = run ]; then
        # Where the command begins, its own words follow.
        place=$((place + 1))
        while [ "$place" -lt "$COMP_CWORD" ]; do
            word=${COMP_WORDS[place]}
            case $word in
            --) place=$((place + 1)) && break ;;
            # bash takes --name=value for three words.
            -*) [ "${COMP_WORDS[place + 1]}" = = ] && place=$((place + 2)) || ! _rq_takes run "$word" || place=$((place + 1)) ;;
            *) break ;;
            esac
            place=$((place + 1))
        done
        if [ "$place" -lt "$COMP_CWORD" ] || { [ "$place" -eq "$COMP_CWORD" ] && [ "${cur#-}" = "$cur" ]; }; then
            if [ "$place" -eq "$COMP_CWORD" ]; then
                COMPREPLY=($(compgen -c -- "$cur"))
            elif declare -F _command_offset >/dev/null; then
                _command_offset "$place"
            fi
            # Else bash completes names of files, as for any command.
            return
        fi
    fi
    case $prev in
    -w | --node | -x | --exclude)
        if [ "$verb" = run ] || [ "$verb" = sweep ]; then
            COMPREPLY=($(compgen -W "$(_rq_nodes)" -- "$cur"))
            return
        fi
        ;;
    -D | --chdir)
        COMPREPLY=($(compgen -d -- "$cur"))
        return
        ;;
    --set)
        COMPREPLY=($(compgen -W "$(_rq_sets)" -- "$cur"))
        return
        ;;
    --after | --after-any | --after-fail | --after-each)
        COMPREPLY=($(compgen -W "$(_rq_jobs "$cur")" -- "$cur"))
        return
        ;;
    --priority)
        COMPREPLY=($(compgen -W "high normal low" -- "$cur"))
        return
        ;;
    -u | --user)
        return
        ;;
    esac
    # The value of an option: a file, or what nobody can guess.
    case $prev in
    -*) _rq_takes "$verb" "$prev" && return ;;
    esac
    case $cur in
    -*)
        COMPREPLY=($(compgen -W "$(_rq_options "$verb" | cut -d ' ' -f 1)" -- "$cur"))
        return
        ;;
    esac
    case $verb in
    show | why | log | watch | wait | cancel | restart | pause | cont | signal | hold | release | rerun | retire | edit | \
        list | dump | history | report | stats | sets | limit | worker) COMPREPLY=($(compgen -W "$(_rq_jobs "$cur")" -- "$cur")) ;;
    lost | drain | resume) COMPREPLY=($(compgen -W "$(_rq_nodes)" -- "$cur")) ;;
    help) COMPREPLY=($(compgen -W "$(_rq_verbs)" -- "$cur")) ;;
    esac
}

# Where nothing is found, names of files are completed.
complete -o default -F _rq rq

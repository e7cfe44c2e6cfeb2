# shellcheck shell=bash
# Completion of postern for bash. The binary itself is asked what there is: `postern --help`, `postern VERB --help`,
# and for names what its state directory holds.

# The subcommands.
_postern_verbs() {
  "$1" --help 2>/dev/null | sed -n '/^subcommands:/,/^$/s/^  \([a-z]\{1,\}\) .*/\1/p'
}

# The options of a usage.
_postern_options() {
  grep -oE -- '--[a-z][a-z-]*' <<<"$1" | sort -u
}

# What an option's value is by its usage: "FILE", "NAME"; nothing where it takes none.
_postern_value() {
  grep -oE -- "(^|[^a-z-])$2 +[A-Z][A-Z-]*" <<<"$1" | sed -n '1s/.* //p'
}

# The words that may stand behind the subcommand: those of each line of its usage before "ID", "NAME", "all".
_postern_words() {
  sed -nE 's/^(usage:|      ) postern [a-z]+ ([a-z|]+)( .*)?$/\2/p' <<<"$1" | tr '|' '\n'
}

_postern_domains() {
  "$1" domains -c "$2" --json 2>/dev/null | sed -n 's/^{"domain":"\([^"]*\)".*/\1/p'
}

# Ids of batches, dead letters, events that webhooks refused, sessions, and keys that are not withdrawn yet.
_postern_ids() {
  case $3 in
  batches) "$1" batches -c "$2" --json --limit 50 2>/dev/null | sed -n 's/^{"batch":"\([0-9a-f]*\)".*/\1/p' ;;
  deadletters) "$1" deadletters -c "$2" --json --limit 50 2>/dev/null | sed -n 's/^{"id":"\([0-9a-f]\{12\}\).*/\1/p' ;;
  webhooks) "$1" webhooks failures -c "$2" --json --limit 50 2>/dev/null | sed -n 's/^{"id":"\([0-9a-f]\{12\}\).*/\1/p' ;;
  key) "$1" key list -c "$2" --json 2>/dev/null | sed -n '/"state":"withdrawn"/d; s/^{"id":"\([0-9a-f]*\)".*/\1/p' ;;
  login) "$1" login list -c "$2" --json 2>/dev/null | sed -n 's/^{"id":"\([0-9a-f]*\)".*/\1/p' ;;
  esac
}

_postern_offer() {
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "${COMP_WORDS[COMP_CWORD]}")
}

_postern_files() {
  compopt -o filenames 2>/dev/null || true
  mapfile -t COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
}

# What the subcommand is about, or the word of its own before that.
_postern_operand() {
  local program=$1 conf=$2 verb=$3 word=$4 words
  words=$(_postern_words "$5")
  if [[ -n $word ]] && ! grep -qxF -- "$word" <<<"$words"; then return; fi
  case $verb:$word in
  backup:) _postern_files ;;
  batches:) _postern_offer "$words $(_postern_ids "$program" "$conf" "$verb")" ;;
  domains:) _postern_offer "$words $(_postern_domains "$program" "$conf")" ;;
  *:) _postern_offer "$words" ;;
  domains:* | webhooks:key) _postern_offer "$(_postern_domains "$program" "$conf")" ;;
  *:replay | *:drop | *:end) _postern_offer "all $(_postern_ids "$program" "$conf" "$verb")" ;;
  batches:* | *:show | *:withdraw) _postern_offer "$(_postern_ids "$program" "$conf" "$verb")" ;;
  esac
}

_postern() {
  local program=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} conf=proxy.conf verb='' word='' usage='' value='' i
  COMPREPLY=()
  case ${COMP_WORDS[1]-} in
  -*) ;;
  *) if ((COMP_CWORD > 1)); then verb=${COMP_WORDS[1]}; fi ;;
  esac
  if [[ -n $verb ]]; then usage=$("$program" "$verb" --help 2>/dev/null); fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    value=''
    case ${COMP_WORDS[i]} in
    -c)
      value=FILE
      conf=${COMP_WORDS[i + 1]}
      ;;
    --*) value=$(_postern_value "$usage" "${COMP_WORDS[i]}") ;;
    *) if ((i > 1)) && [[ -z $word ]]; then word=${COMP_WORDS[i]}; fi ;;
    esac
    if [[ -n $value ]]; then i=$((i + 1)); fi
  done

  if [[ -n $value ]] && ((i > COMP_CWORD)); then # the word is an option's value
    case $value:${COMP_WORDS[COMP_CWORD - 1]} in
    FILE:*) _postern_files ;;
    NAME:--domain) _postern_offer "$(_postern_domains "$program" "$conf")" ;;
    esac
  elif [[ $cur == -* ]]; then
    if [[ -n $verb ]]; then
      _postern_offer "-c --help $(_postern_options "$usage")"
    else
      _postern_offer '-c -t --help --version'
    fi
  elif [[ -n $verb ]]; then
    _postern_operand "$program" "$conf" "$verb" "$word" "$usage"
  elif ((COMP_CWORD == 1)); then
    _postern_offer "$(_postern_verbs "$program")"
  fi
}

complete -F _postern postern

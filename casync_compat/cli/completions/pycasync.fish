# fish completion of pycasync: what a word may be, pycasync itself tells.
function __pycasync_words
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    $words[1] completion fish -- $words "$current" 2>/dev/null
end
complete -c pycasync -f -a '(__pycasync_words)'

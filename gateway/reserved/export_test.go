package reserved

// JobCode is jobCode.
var JobCode = jobCode
